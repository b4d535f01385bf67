//! What of a long list is shown: a page must stay one that is read.

use super::html::Html;

/// Rows of a table of nodes, of each upstream.
pub(super) const NODES_MAX: usize = 100;

/// Rows of any other table.
pub(super) const ROWS_MAX: usize = 50;

/// `all` in their order; past `most` only those that weigh the most.
pub(super) fn shown<T>(all: &[T], most: usize, weight: impl Fn(&T) -> f64) -> Vec<&T> {
    let mut numbered: Vec<(usize, &T)> = all.iter().enumerate().collect();
    if numbered.len() > most {
        numbered.sort_by(|(_, one), (_, other)| weight(other).total_cmp(&weight(one)));
        numbered.truncate(most);
        numbered.sort_by_key(|(number, _)| *number);
    }
    numbered.into_iter().map(|(_, one)| one).collect()
}

/// Says how many are not shown.
pub(super) fn rest<T>(html: &mut Html, all: &[T], shown: usize) {
    if all.len() > shown {
        html.raw("<p class=rest>and ").text(all.len() - shown);
        html.raw(" more: <a href=/api/status>/api/status</a></p>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_to_what_weighs_the_most_in_its_order() {
        let all = [1.0, 9.0, 5.0, 9.0, 0.0];
        assert_eq!(shown(&all, 5, |one| *one), [&1.0, &9.0, &5.0, &9.0, &0.0]);
        assert_eq!(shown(&all, 3, |one| *one), [&9.0, &5.0, &9.0]);
        let mut html = Html::default();
        rest(&mut html, &all, 3);
        assert!(html.as_str().contains("and 2 more"));
    }
}
