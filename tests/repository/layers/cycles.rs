//! Finds cycles of imports between files. A file may use an item through a re-export. The check counts this use as an import from the file
//! that defines the item. The re-export itself (`pub use`, for example in a `mod.rs`) does not count as an import. Code of `mod tests` is
//! not checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::paths;

/// A path of module names below the crate: `["wire", "header"]`.
type Module = Vec<String>;

/// The imports of each group of files that import each other, as lines `x -> y`. `sources` is the module and the content of each file.
pub(crate) fn cycles(sources: &[(Module, String)]) -> syn::Result<Vec<String>> {
    let graph = imports(sources)?;
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|file| (file, reachable(&graph, file))).collect();
    let mut groups = BTreeSet::new();
    for file in graph.keys() {
        // Two files are in the same group if each reaches the other.
        let group: BTreeSet<&Module> =
            reached[file].iter().copied().filter(|other| reached[other].contains(file)).collect();
        let edges =
            group.iter().flat_map(|from| graph[*from].iter().filter(|to| group.contains(to)).map(|to| (*from, to)));
        let lines: Vec<String> = edges.map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::"))).collect();
        groups.extend((!lines.is_empty()).then(|| lines.join("\n")));
    }
    Ok(groups.into_iter().collect())
}

/// The files that `file` imports directly or through other files. The result contains `file` only if `file` is part of a cycle.
fn reachable<'a>(graph: &'a BTreeMap<Module, BTreeSet<Module>>, file: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&Module> = graph[file].iter().collect();
    while let Some(next) = pending.pop() {
        if reached.insert(next) {
            pending.extend(&graph[next]);
        }
    }
    reached
}

/// For each file, the set of the other files whose items this file uses.
fn imports(sources: &[(Module, String)]) -> syn::Result<BTreeMap<Module, BTreeSet<Module>>> {
    let mut files = HashMap::new();
    for (module, source) in sources {
        files.insert(module.clone(), paths::code_paths(source, module)?);
    }
    Ok(files
        .iter()
        .map(|(module, code)| {
            let used = code.named.iter().filter_map(|path| resolve(&files, module, path, 0));
            (module.clone(), used.filter(|used| used != module).collect())
        })
        .collect())
}

/// The file that defines the item at `path`. The path occurs in the code of `module`.
fn resolve(
    files: &HashMap<Module, paths::CodePaths>,
    module: &Module,
    path: &[String],
    depth: usize,
) -> Option<Module> {
    let absolute = if path[0] == "crate" {
        path[1..].to_vec()
    } else {
        // A path can start with a child module, without `self::`.
        let child: Module = module.iter().chain(&path[..1]).cloned().collect();
        files.contains_key(&child).then(|| module.iter().chain(path).cloned().collect())?
    };
    let (file, rest) =
        (0..=absolute.len()).rev().map(|end| absolute.split_at(end)).find(|(file, _)| files.contains_key(*file))?;
    let code = &files[file];
    // The search follows at most eight re-exports. No real chain of re-exports is longer. The limit also ends the search if re-exports form
    // a cycle.
    match rest.first().and_then(|name| code.imports.get(name)) {
        Some(targets) if depth < 8 => {
            targets.iter().find_map(|target| resolve(files, &file.to_vec(), target, depth + 1))
        }
        _ => Some(file.to_vec()),
    }
}
