//! The names that a program can write: what `src/lib.rs` exports, and what its public modules do.

use std::path::Path;

use syn::{File, Item, ItemMod, UseTree, Visibility};

/// Each as a path below the crate, sorted: `Channel`, `status::Cause`.
pub(crate) fn names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    collect(
        &root.join("src"),
        "",
        &parse(&root.join("src/lib.rs")).items,
        &mut names,
    );
    names.sort();
    names
}

fn parse(path: &Path) -> File {
    let text = std::fs::read_to_string(path).expect("a module has a file");
    syn::parse_file(&text).expect("Rust")
}

fn collect(folder: &Path, prefix: &str, items: &[Item], names: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Use(item) if is_public(&item.vis) => leaves(&item.tree, prefix, names),
            Item::Mod(module) if is_public(&module.vis) && module.ident != "fuzzing" => {
                inside(folder, prefix, module, names);
            }
            _ => {}
        }
    }
}

fn inside(folder: &Path, prefix: &str, module: &ItemMod, names: &mut Vec<String>) {
    let name = module.ident.to_string();
    let prefix = format!("{prefix}{name}::");
    let folder = folder.join(&name);
    match &module.content {
        Some((_, items)) => collect(&folder, &prefix, items, names),
        None => collect(
            &folder,
            &prefix,
            &parse(&folder.join("mod.rs")).items,
            names,
        ),
    }
}

fn leaves(tree: &UseTree, prefix: &str, names: &mut Vec<String>) {
    match tree {
        UseTree::Path(path) => leaves(&path.tree, prefix, names),
        UseTree::Name(name) => names.push(format!("{prefix}{}", name.ident)),
        UseTree::Rename(name) => names.push(format!("{prefix}{}", name.rename)),
        UseTree::Glob(_) => names.push(format!("{prefix}*")),
        UseTree::Group(group) => {
            let trees = group.items.iter();
            trees.for_each(|tree| leaves(tree, prefix, names));
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}
