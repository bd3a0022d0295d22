//! The crates of the workspace: their folders, manifests and files.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct ModuleFile {
    /// With `/` between parent and child.
    pub(crate) module: String,
    pub(crate) path: PathBuf,
}

/// The files below `src` that are modules of the library.
pub(crate) fn modules(folder: &Path) -> Vec<ModuleFile> {
    let src = folder.join("src");
    let mut modules = Vec::new();
    for path in rust_files(&src) {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let module = relative.to_str().unwrap().replace(std::path::MAIN_SEPARATOR, "/");
        let module = module.strip_suffix("/mod").unwrap_or(&module).to_owned();
        let is_test = module == "tests" || module.ends_with("/tests");
        if module != "lib" && module != "main" && !module.starts_with("bin/") && !is_test {
            modules.push(ModuleFile { module, path });
        }
    }
    modules
}

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Normal,
    Dev,
}

/// The names in each `dependencies` table of a manifest.
pub(crate) fn dependencies(manifest: &str) -> Vec<(Section, String)> {
    let mut found = Vec::new();
    let mut section = None;
    for line in manifest.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            let header = header.trim_end_matches(']');
            section = match header.rsplit('.').find(|part| part.ends_with("dependencies")) {
                Some("dev-dependencies") => Some(Section::Dev),
                Some(_) => Some(Section::Normal),
                None => None,
            };
            if let (Some(section), Some((_, name))) = (section, header.split_once("dependencies.")) {
                found.push((section, name.to_owned()));
            }
        } else if let (Some(section), Some((key, _))) = (section, line.split_once('=')) {
            let name = key.split('.').next().unwrap_or_default().trim();
            if !name.starts_with('#') {
                found.push((section, name.to_owned()));
            }
        }
    }
    found
}

/// The folders of the workspace's members.
pub(crate) fn members() -> Vec<PathBuf> {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, list) = manifest.split_once("members = [").expect("the workspace has members");
    let (list, _) = list.split_once(']').expect("the list of members ends");
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(|member| root().join(member))
        .collect()
}

pub(crate) fn package_name(folder: &Path) -> String {
    let manifest = read(&folder.join("Cargo.toml"));
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .expect("a package has a name");
    name.trim_matches('"').to_owned()
}

pub(crate) fn is_published(folder: &Path) -> bool {
    !read(&folder.join("Cargo.toml"))
        .lines()
        .any(|line| line == "publish = false")
}

pub(crate) fn architecture() -> String {
    read(&root().join("ARCHITECTURE.md"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
}

pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_dependency() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = { path = \"c\" }\n\
                        [dependencies.d]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dev-dependencies]\nf = \"1\"\n[features]\ng = []\n";
        let found = dependencies(manifest);
        let names: Vec<&str> = found
            .iter()
            .filter(|(section, _)| *section == Section::Normal)
            .map(|(_, name)| name.as_str())
            .collect();
        // `version` is a key of `d`, and no family crate is called so.
        assert_eq!(names, ["b", "c", "d", "version", "e"]);
        assert!(found.contains(&(Section::Dev, "f".to_owned())));
        assert!(found.iter().all(|(_, name)| name != "g"));
    }
}
