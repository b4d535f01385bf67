//! Markup that cannot carry anybody's text: what is not written in this source is escaped.

use std::fmt::{Display, Write};

/// A piece of a page.
#[derive(Default)]
pub(in crate::admin) struct Html(String);

impl Html {
    /// Markup, as it stands in this source.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Whatever a name, a node or a client says, also between quotes.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // A String takes all that is written.
        let _never_fails = write!(Escaping(&mut self.0), "{text}");
        self
    }

    pub(in crate::admin) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

struct Escaping<'h>(&'h mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.raw("<b title=\"").text("\" onclick='x'").raw("\">").text("<script>&</script>");
        assert_eq!(
            html.as_str(),
            "<b title=\"&quot; onclick=&#39;x&#39;\">&lt;script&gt;&amp;&lt;/script&gt;"
        );
    }
}
