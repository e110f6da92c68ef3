//! Which file of a crate uses which, read from its syntax.
//!
//! A name is followed through `use` and `pub use` to the file that defines it, so that a
//! `mod.rs`, which only exports, stands between no two files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use syn::{
    Attribute, File, Item, ItemMod, UseTree,
    visit::{self, Visit},
};

/// The files of a crate, and who uses whom.
pub(crate) struct Structure {
    pub(crate) edges: BTreeMap<String, BTreeSet<String>>,
}

/// A module: the file it is in, what it defines, and what its `use`s bring.
#[derive(Default)]
struct Module {
    file: String,
    items: BTreeSet<String>,
    uses: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Every path in the code that has more than one name.
    paths: Vec<Vec<String>>,
}

/// By path below the crate: `["transport", "io", "proxy"]`.
type Modules = BTreeMap<Vec<String>, Module>;

impl Structure {
    /// Of the files below `root`, each with its text. Tests are not looked at.
    ///
    /// # Panics
    ///
    /// If a file is not Rust.
    pub(crate) fn of<'a>(
        root: &str,
        sources: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut modules = Modules::new();
        for (path, text) in sources {
            let file: File = syn::parse_file(text).unwrap_or_else(|error| {
                panic!("{path} cannot be parsed: {error}");
            });
            let mut module = Module {
                file: path.to_owned(),
                ..Module::default()
            };
            module.read(&file.items);
            module.visit_file(&file);
            modules.insert(module_path(root, path), module);
        }
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (at, module) in &modules {
            let from = edges.entry(module.file.clone()).or_default();
            if is_door(&module.file) {
                continue;
            }
            let uses = module.uses.values().chain(&module.globs);
            for path in uses.chain(&module.paths) {
                let to = resolve(&modules, at, path, 0);
                from.extend(to.filter(|to| *to != module.file && !is_door(to)));
            }
        }
        Self { edges }
    }

    /// Files that need each other: each a list of two or more.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<_, _> = self
            .edges
            .keys()
            .map(|file| (file, self.reachable(file)))
            .collect();
        let mut circles = BTreeSet::new();
        for (file, reached) in &reach {
            let circle: Vec<_> = reached
                .iter()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(*file)))
                .cloned()
                .collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reachable(&self, file: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![file.to_owned()];
        while let Some(file) = next.pop() {
            for to in self.edges.get(&file).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        reached
    }
}

/// What a `mod.rs` has that is neither a module nor an import.
pub(crate) fn logic(text: &str) -> Vec<String> {
    let file = syn::parse_file(text).expect("Rust");
    let is_logic = |item: &&Item| match item {
        Item::Use(_) | Item::ExternCrate(_) => false,
        Item::Mod(module) => module.content.is_some(),
        _ => true,
    };
    let named = file.items.iter().filter(is_logic).map(|item| match item {
        Item::Impl(_) => "an `impl`".to_owned(),
        Item::Macro(_) => "a macro".to_owned(),
        item => name_of(item).map_or("an item".to_owned(), |name| format!("`{name}`")),
    });
    named.collect()
}

/// A file that only says what is below it.
fn is_door(file: &str) -> bool {
    ["/mod.rs", "/lib.rs", "/main.rs"]
        .iter()
        .any(|door| file.ends_with(door))
}

fn module_path(root: &str, file: &str) -> Vec<String> {
    let below = Path::new(file).strip_prefix(root).expect("below the root");
    let mut names: Vec<_> = below
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if matches!(
        names.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        names.pop();
    }
    names
}

/// The file that defines what `path` names in the module `at`. `None` if that is in another
/// crate, or in the module itself.
fn resolve(modules: &Modules, at: &[String], path: &[String], depth: usize) -> Option<String> {
    // No chain of `pub use` is longer; one that is would go round.
    if depth > 8 {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let here = modules.get(at)?;
    match first.as_str() {
        "crate" => descend(modules, Vec::new(), rest, depth),
        "self" => descend(modules, at.to_vec(), rest, depth),
        "super" => descend(modules, at.split_last()?.1.to_vec(), rest, depth),
        name => {
            let child = [at, &[name.to_owned()]].concat();
            if modules.contains_key(&child) {
                return descend(modules, child, rest, depth);
            }
            let import = here.uses.get(name).filter(|import| *import != path)?;
            resolve(modules, at, &[import, rest].concat(), depth + 1)
        }
    }
}

fn descend(
    modules: &Modules,
    mut at: Vec<String>,
    path: &[String],
    depth: usize,
) -> Option<String> {
    let Some((first, rest)) = path.split_first() else {
        return Some(modules.get(&at)?.file.clone());
    };
    if first == "super" {
        at.pop();
        return descend(modules, at, rest, depth);
    }
    let child = [&at[..], std::slice::from_ref(first)].concat();
    if modules.contains_key(&child) {
        return descend(modules, child, rest, depth);
    }
    let module = modules.get(&at)?;
    if module.items.contains(first) {
        return Some(module.file.clone());
    }
    if let Some(import) = module.uses.get(first) {
        return resolve(modules, &at, &[import, rest].concat(), depth + 1);
    }
    let globs = module.globs.iter();
    let mut found =
        globs.filter_map(|glob| resolve(modules, &at, &[glob, path].concat(), depth + 1));
    found.next().or_else(|| Some(module.file.clone()))
}

impl Module {
    fn read(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Use(import) if !is_test(&import.attrs) => {
                    self.import(Vec::new(), &import.tree);
                }
                Item::Macro(item) => {
                    self.items
                        .extend(item.ident.as_ref().map(ToString::to_string));
                }
                item => self.items.extend(name_of(item)),
            }
        }
    }

    fn import(&mut self, mut path: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(path, &part.tree);
            }
            UseTree::Name(name) if name.ident == "self" => {
                let bound = path.last().cloned().unwrap_or_default();
                self.uses.insert(bound, path);
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.uses.insert(name.ident.to_string(), path);
            }
            UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                let bound = match name.rename == "_" {
                    true => path.join("::"),
                    false => name.rename.to_string(),
                };
                self.uses.insert(bound, path);
            }
            UseTree::Glob(_) => self.globs.push(path),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(path.clone(), tree);
                }
            }
        }
    }

    /// A path in what a macro is given, which is not parsed.
    fn read_tokens(&mut self, tokens: &str) {
        let is_part = |word: &&str| word.chars().all(|c| c.is_alphanumeric() || c == '_');
        for root in ["crate", "super"] {
            for after in tokens.split(&format!("{root} :: ")).skip(1) {
                let names = after.split(" :: ").map(|part| {
                    part.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                        .next()
                });
                let names = names.flatten().filter(is_part).map(str::to_owned);
                let path = std::iter::once(root.to_owned()).chain(names.take(4));
                self.paths.push(path.collect());
            }
        }
    }
}

impl<'a> Visit<'a> for Module {
    fn visit_item(&mut self, item: &'a Item) {
        if !attributes(item).is_some_and(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, _: &'a syn::ItemUse) {}

    fn visit_attribute(&mut self, _: &'a Attribute) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|part| part.ident.to_string());
            self.paths.push(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.read_tokens(&called.tokens.to_string());
        visit::visit_macro(self, called);
    }
}

pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = match &attribute.meta {
            syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string(),
            _ => return false,
        };
        text == "test" || text.starts_with("all (test") || text.starts_with("all(test")
    })
}

pub(crate) fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(ItemMod { attrs, .. }) => attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        _ => return None,
    })
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}
