//! Whether a template wants a message's content as a string or as a list of parts: vLLM looks for a loop over it, and so
//! does this, by the same rules (`_detect_content_format` there).

use std::collections::HashSet;

use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

/// True where it wants parts.
pub(super) fn in_parts(source: &str) -> bool {
    let Ok(template) = parse(source, "chat", SyntaxConfig::default()) else { return false };
    let mut seen = Seen::default();
    seen.statement(&template, None);
    seen.loops_over_content()
}

/// What stands in a template, all of it.
#[derive(Default)]
struct Seen<'a> {
    /// Targets and values of `set`.
    sets: Vec<(&'a Expr<'a>, &'a Expr<'a>)>,
    loops: Vec<Loop<'a>>,
    macros: Vec<&'a Macro<'a>>,
    calls: Vec<&'a Call<'a>>,
}

struct Loop<'a> {
    target: &'a Expr<'a>,
    over: &'a Expr<'a>,
    /// The macro that it stands in, by its place in the list.
    within: Option<usize>,
}

impl<'a> Seen<'a> {
    fn loops_over_content(&self) -> bool {
        let Some(messages) = self.names_of_messages() else { return false };
        let over_message = |each: &&Loop<'_>| messages.iter().any(|name| is(each.over, name, None));
        let mut items = Vec::new();
        for each in self.loops.iter().filter(over_message) {
            match name(each.target) {
                Some(name) => items.push(name),
                // vLLM's search fails here, and it takes strings.
                None => return false,
            }
        }
        let of_message = |expr: &Expr<'_>| items.iter().any(|item| is(expr, item, Some("content")));
        let parameters: Vec<HashSet<&str>> =
            self.macros.iter().map(|known| self.parameters_with(known, &of_message)).collect();
        self.loops.iter().any(|each| {
            let over = name(each.over);
            let in_macro = each.within.and_then(|at| parameters.get(at));
            of_message(each.over)
                || over.is_some_and(|over| in_macro.is_some_and(|known| known.contains(over)))
                || (each.within.is_none() && over == Some("content"))
        }) && self.loops.iter().all(|each| name(each.target).is_some() || !of_message(each.over))
    }

    /// `messages` and what else is set to it or a part of it; none where vLLM's search fails.
    fn names_of_messages(&self) -> Option<Vec<&'a str>> {
        let mut names = vec!["messages"];
        let mut next = 0;
        while let Some(known) = names.get(next).copied() {
            next += 1;
            for (target, _) in self.sets.iter().filter(|(_, value)| is(value, known, None)) {
                let target = name(target)?;
                if !names.contains(&target) {
                    names.push(target);
                }
            }
        }
        Some(names)
    }

    /// Parameters of a macro that a message's content is given as, anywhere.
    fn parameters_with(
        &self,
        known: &Macro<'a>,
        of_message: &dyn Fn(&Expr<'_>) -> bool,
    ) -> HashSet<&'a str> {
        let names: Vec<&'a str> = known.args.iter().filter_map(name).collect();
        let mut found = HashSet::new();
        for call in self.calls.iter().filter(|call| name(&call.expr) == Some(known.name)) {
            let mut position = 0;
            for argument in &call.args {
                match argument {
                    CallArg::Pos(value) => {
                        found.extend(names.get(position).filter(|_| of_message(value)));
                        position += 1;
                    }
                    CallArg::Kwarg(key, value) if of_message(value) => {
                        found.extend(names.iter().find(|name| *name == key));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn statements(&mut self, list: &'a [Stmt<'a>], within: Option<usize>) {
        list.iter().for_each(|statement| self.statement(statement, within));
    }

    fn statement(&mut self, statement: &'a Stmt<'a>, within: Option<usize>) {
        match statement {
            Stmt::Template(inner) => self.statements(&inner.children, within),
            Stmt::EmitExpr(inner) => self.expression(&inner.expr),
            Stmt::ForLoop(inner) => {
                self.loops.push(Loop { target: &inner.target, over: &inner.iter, within });
                self.expression(&inner.iter);
                inner.filter_expr.iter().for_each(|expr| self.expression(expr));
                self.statements(&inner.body, within);
                self.statements(&inner.else_body, within);
            }
            Stmt::IfCond(inner) => {
                self.expression(&inner.expr);
                self.statements(&inner.true_body, within);
                self.statements(&inner.false_body, within);
            }
            Stmt::WithBlock(inner) => {
                inner.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.statements(&inner.body, within);
            }
            Stmt::Set(inner) => {
                self.sets.push((&inner.target, &inner.expr));
                self.expression(&inner.expr);
            }
            Stmt::SetBlock(inner) => self.statements(&inner.body, within),
            Stmt::FilterBlock(inner) => self.statements(&inner.body, within),
            Stmt::AutoEscape(inner) => self.statements(&inner.body, within),
            Stmt::Macro(inner) => {
                self.macros.push(inner);
                self.statements(&inner.body, Some(self.macros.len() - 1));
            }
            Stmt::CallBlock(inner) => {
                self.call(&inner.call);
                self.statements(&inner.macro_decl.body, within);
            }
            Stmt::Do(inner) => self.call(&inner.call),
            _ => {}
        }
    }

    fn expression(&mut self, expression: &'a Expr<'a>) {
        match expression {
            Expr::Call(inner) => self.call(inner),
            Expr::Slice(inner) => self.expression(&inner.expr),
            Expr::UnaryOp(inner) => self.expression(&inner.expr),
            Expr::BinOp(inner) => self.expressions([&inner.left, &inner.right]),
            Expr::Compare(inner) => {
                self.expression(&inner.expr);
                self.expressions(inner.ops.iter().map(|op| &op.expr));
            }
            Expr::IfExpr(inner) => {
                self.expressions([&inner.test_expr, &inner.true_expr]);
                self.expressions(&inner.false_expr);
            }
            Expr::Filter(inner) => {
                self.expressions(&inner.expr);
                self.arguments(&inner.args);
            }
            Expr::Test(inner) => {
                self.expression(&inner.expr);
                self.arguments(&inner.args);
            }
            Expr::GetAttr(inner) => self.expression(&inner.expr),
            Expr::GetItem(inner) => self.expressions([&inner.expr, &inner.subscript_expr]),
            Expr::List(inner) => self.expressions(&inner.items),
            Expr::Tuple(inner) => self.expressions(&inner.items),
            Expr::Map(inner) => self.expressions(inner.keys.iter().chain(&inner.values)),
            Expr::Var(_) | Expr::Const(_) => {}
        }
    }

    fn expressions(&mut self, list: impl IntoIterator<Item = &'a Expr<'a>>) {
        list.into_iter().for_each(|expression| self.expression(expression));
    }

    fn call(&mut self, call: &'a Call<'a>) {
        self.calls.push(call);
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, list: &'a [CallArg<'a>]) {
        for argument in list {
            let (CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value)) = argument;
            self.expression(value);
        }
    }
}

fn name<'a>(expression: &Expr<'a>) -> Option<&'a str> {
    match expression {
        Expr::Var(variable) => Some(variable.id),
        _ => None,
    }
}

/// It is the variable, or its field `key`; filters, tests and slices of that are as good.
fn is(expression: &Expr<'_>, variable: &str, key: Option<&str>) -> bool {
    match (expression, key) {
        (Expr::Filter(filter), _) => {
            filter.expr.as_ref().is_some_and(|inner| is(inner, variable, key))
        }
        (Expr::Test(test), _) => is(&test.expr, variable, key),
        (Expr::Slice(slice), _) => is(&slice.expr, variable, key),
        (Expr::Var(found), None) => found.id == variable,
        (Expr::GetAttr(field), Some(key)) => {
            field.name == key && name(&field.expr) == Some(variable)
        }
        (Expr::GetItem(item), Some(key)) => {
            let found = match &item.subscript_expr {
                Expr::Const(constant) => constant.value.as_str() == Some(key),
                _ => false,
            };
            found && name(&item.expr) == Some(variable)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_over_content_wants_parts() {
        for source in [
            "{% for m in messages %}{% for part in m['content'] %}{{ part.text }}{% endfor %}{% endfor %}",
            "{% set rest = messages[1:] %}{% for m in rest|list %}{% if m.content is string %}{% else %}{% for p in m.content | selectattr('type') %}{% endfor %}{% endif %}{% endfor %}",
            "{% macro show(body, x) %}{% for p in body %}{{ p }}{% endfor %}{% endmacro %}{% for m in messages %}{{ show(m.content, true)|trim }}{% endfor %}",
            "{% macro show(x, body) %}{% for p in body %}{{ p }}{% endfor %}{% endmacro %}{% for m in messages %}{{ 'a' ~ show(1, body=m.content) }}{% endfor %}",
            "{% for m in messages %}{% set content = m.content %}{% for p in content %}{% endfor %}{% endfor %}",
        ] {
            assert!(in_parts(source), "{source}");
        }
    }

    #[test]
    fn others_want_a_string() {
        for source in [
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "{% for m in messages %}{% for call in m.tool_calls %}{% endfor %}{% endfor %}",
            "{% macro show(content) %}{% for p in content %}{{ p }}{% endfor %}{% endmacro %}{% for m in messages %}{{ show(m['text']) }}{% endfor %}",
            "{% for m in messages %}{% for p in (m.content or []) %}{% endfor %}{% endfor %}",
            "{% set ns.messages = messages %}{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}",
            "{% for m in messages",
        ] {
            assert!(!in_parts(source), "{source}");
        }
    }
}
