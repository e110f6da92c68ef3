//! The folders in which the way to a file can change: its own, and those of the links to it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As Linux has it: more are a circle.
const MAX_LINKS: usize = 40;

/// What the way to a file goes by. All paths are without links, so that a folder has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// The folder that the path names, in which all changes count.
    pub(super) folder: PathBuf,
    /// Links, the first part that is missing, and the file where they lead.
    pub(super) parts: BTreeSet<PathBuf>,
}

impl Way {
    /// # Errors
    ///
    /// The path cannot be made absolute: the process has no current folder.
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut parts = BTreeSet::new();
        let folder = follow(path.parent().unwrap_or(&path), &mut parts);
        if let Some(name) = path.file_name() {
            let file = follow(&folder.join(name), &mut parts);
            parts.insert(file);
        }
        Ok(Self { folder, parts })
    }

    /// What to watch. The first is the one that must be there.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let parents = self.parts.iter().filter_map(|part| part.parent());
        let others: BTreeSet<&Path> = parents.filter(|parent| *parent != self.folder).collect();
        let folder = [self.folder.as_path()];
        let all = folder.into_iter().chain(others);
        all.map(Path::to_owned).collect()
    }

    /// Whether a change at `path` may change the way.
    pub(super) fn is_touched_by(&self, path: &Path) -> bool {
        let folders = || self.parts.iter().filter_map(|part| part.parent());
        path.starts_with(&self.folder)
            || self.parts.contains(path)
            || folders().any(|folder| folder == path)
    }
}

/// Where `path` leads, as far as it is there. Its links go to `parts`, with the first part
/// that is missing.
fn follow(path: &Path, parts: &mut BTreeSet<PathBuf>) -> PathBuf {
    let mut at = PathBuf::new();
    let mut rest = path.to_owned();
    let mut links = 0;
    let mut is_missing = false;
    loop {
        let mut components = rest.components();
        let Some(component) = components.next() else {
            return at;
        };
        let behind = components.as_path().to_owned();
        match component {
            Component::ParentDir => {
                at.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir => at.push(component),
            Component::Normal(name) => {
                let next = at.join(name);
                match fs::read_link(&next) {
                    Ok(target) if links < MAX_LINKS => {
                        links += 1;
                        parts.insert(next);
                        rest = target.join(behind);
                        if rest.is_absolute() {
                            at = PathBuf::new();
                        }
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !is_missing => {
                        is_missing = true;
                        parts.insert(next.clone());
                    }
                    // Not a link, for the most part.
                    Ok(_) | Err(_) => {}
                }
                at = next;
            }
        }
        rest = behind;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use tempfile::TempDir;

    use super::Way;

    fn named(way: &Way, under: &Path) -> (Vec<String>, Vec<String>) {
        let name = |path: &Path| {
            let path = path.strip_prefix(under).expect("it is there");
            path.display().to_string()
        };
        let folders = way.folders();
        let parts = way.parts.iter().map(|part| name(part)).collect();
        (folders.iter().map(|folder| name(folder)).collect(), parts)
    }

    // D292
    #[test]
    fn a_way_goes_by_each_link_to_where_it_leads() {
        let temp = TempDir::new().expect("a folder");
        let root = temp.path().canonicalize().expect("it is there");
        fs::create_dir_all(root.join("real/v1")).expect("made");
        fs::write(root.join("real/v1/file"), "").expect("written");
        symlink("v1", root.join("real/now")).expect("linked");
        symlink(root.join("real"), root.join("link")).expect("linked");
        symlink("now/file", root.join("real/file")).expect("linked");
        let (folders, parts) = named(&Way::to(&root.join("link/file")).expect("a way"), &root);
        assert_eq!(folders, ["real", "", "real/v1"]);
        assert_eq!(parts, ["link", "real/file", "real/now", "real/v1/file"]);

        let (folders, parts) = named(&Way::to(&root.join("none/a/b")).expect("a way"), &root);
        assert_eq!(folders, ["none/a", ""]);
        assert_eq!(parts, ["none", "none/a/b"]);

        symlink("circle", root.join("circle")).expect("linked");
        let (_, parts) = named(&Way::to(&root.join("circle/a")).expect("a way"), &root);
        assert!(parts.contains(&"circle".to_owned()));
    }
}
