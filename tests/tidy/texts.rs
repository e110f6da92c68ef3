//! The texts in a file of Rust: those that users of the product read, and comments.

use syn::{
    Attribute, Expr, ImplItem, Item, Lit, LitStr, Macro, Meta,
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

use super::structure::{attributes, is_test};

/// Attributes whose texts end up before a user.
const SHOWN: [&str; 6] = ["arg", "command", "deprecated", "group", "must_use", "value"];

/// Derived by types whose documentation `clap` prints with `--help`.
const CLAP: [&str; 4] = ["Args", "Parser", "Subcommand", "ValueEnum"];

/// String literals with more than one word, and what `--help` says. Unit tests are left out.
pub(crate) fn product_texts(source: &str) -> Vec<String> {
    let mut texts = Texts::default();
    texts.visit_file(&syn::parse_file(source).expect("Rust"));
    texts.0
}

/// Comments and documentation, each block as Markdown.
pub(crate) fn comments(source: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut last = None;
    for line in source.lines().map(str::trim_start) {
        let marker = ["///", "//!", "//"]
            .into_iter()
            .find(|marker| line.starts_with(marker));
        if let Some(marker) = marker {
            if last != Some(marker) {
                blocks.push(String::new());
            }
            let block = blocks.last_mut().expect("pushed with its first line");
            let text = &line[marker.len()..];
            block.push_str(text.strip_prefix(' ').unwrap_or(text));
            block.push('\n');
        }
        last = marker;
    }
    blocks
}

#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn push(&mut self, text: &str) {
        if text.trim().contains(' ') {
            self.0.push(text.to_owned());
        }
    }

    /// The input of a macro or an attribute, which `syn` does not parse.
    fn read_tokens(&mut self, mut at: Cursor<'_>) {
        while !at.eof() {
            if let Some((inner, _, _, next)) = at.any_group() {
                self.read_tokens(inner);
                at = next;
            } else if let Some((literal, next)) = at.literal() {
                if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                    self.push(&text.value());
                }
                at = next;
            } else {
                let Some((_, next)) = at.token_tree() else {
                    return;
                };
                at = next;
            }
        }
    }

    fn read_docs(&mut self, attributes: &[Attribute]) {
        let lines = attributes
            .iter()
            .filter_map(|attribute| match &attribute.meta {
                Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                    Expr::Lit(text) => match &text.lit {
                        Lit::Str(text) => Some(text.value()),
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            });
        let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
        for paragraph in lines.join(" ").split("  ") {
            self.push(paragraph);
        }
    }
}

impl<'a> Visit<'a> for Texts {
    fn visit_item(&mut self, item: &'a Item) {
        let own = attributes(item).unwrap_or_default();
        if is_test(own) {
            return;
        }
        if own.iter().any(is_for_clap) {
            self.read_docs(own);
            match item {
                Item::Struct(item) => item.fields.iter().for_each(|it| self.read_docs(&it.attrs)),
                Item::Enum(item) => item
                    .variants
                    .iter()
                    .for_each(|it| self.read_docs(&it.attrs)),
                _ => {}
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        match item {
            ImplItem::Fn(item) if is_test(&item.attrs) => {}
            item => visit::visit_impl_item(self, item),
        }
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if !SHOWN.iter().any(|shown| attribute.path().is_ident(shown)) {
            return;
        }
        match &attribute.meta {
            Meta::List(list) => {
                self.read_tokens(TokenBuffer::new2(list.tokens.clone()).begin());
            }
            meta => visit::visit_meta(self, meta),
        }
    }

    fn visit_lit_str(&mut self, text: &'a LitStr) {
        self.push(&text.value());
    }

    fn visit_macro(&mut self, called: &'a Macro) {
        self.read_tokens(TokenBuffer::new2(called.tokens.clone()).begin());
    }
}

fn is_for_clap(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    let derived = list.tokens.to_string();
    list.path.is_ident("derive") && CLAP.iter().any(|name| derived.contains(name))
}

#[test]
fn texts_are_found_wherever_they_stand() {
    let source = r##"
        //! The file.
        /// In `--help`.
        ///
        /// The long one.
        #[derive(clap::Args)]
        #[command(after_help = "at the end")]
        struct Args {
            /// Of a flag
            #[arg(long, value_name = "A NAME")]
            flag: bool,
        }
        /// Of no command.
        #[expect(dead_code, reason = "not for users")]
        const ONE: &str = "in a const";
        fn code() {
            // Within.
            let raw = r#"in a raw one"#;
            panic!("in {}", format!("a \
                macro"));
        }
        #[cfg(test)]
        mod tests {
            const OTHER: &str = "of a test";
        }
    "##;
    let expected = [
        "In `--help`.",
        "The long one.",
        "Of a flag",
        "at the end",
        "A NAME",
        "in a const",
        "in a raw one",
        "in {}",
        "a macro",
    ];
    assert_eq!(product_texts(source), expected);
    let expected = [
        "The file.\n",
        "In `--help`.\n\nThe long one.\n",
        "Of a flag\n",
        "Of no command.\n",
        "Within.\n",
    ];
    assert_eq!(comments(source), expected);
}
