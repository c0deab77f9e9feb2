//! HTML that what it shows cannot break.

use std::fmt::{self, Display, Write as _};

/// A page that is being built. Tags and attributes are constants of the program. Everything else
/// goes through [`Html::text`], which escapes it.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl Html {
    /// Adds markup that is known when the program is built.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text from any source. Also safe within the quotes of an attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a String cannot fail.
        let _written = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// The finished page.
    pub(super) fn done(self) -> String {
        self.0
    }
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
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
    fn text_stays_text() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\"><b>'&").raw("\">").text("<script>").raw("</p>");
        let expected = "<p title=\"&quot;&gt;&lt;b&gt;&#39;&amp;\">&lt;script&gt;</p>";
        assert_eq!(html.done(), expected);
    }
}
