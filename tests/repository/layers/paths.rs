//! Finds every path in a source file and makes it absolute. Paths occur in `use` trees, qualified paths, macro names and attributes. Token
//! sequences in macro calls that look like a path also count as paths.
//!
//! Names are resolved by the file's own imports (`use std::time as t; t::Instant`). Scopes are ignored. An import anywhere in a file
//! applies to the whole file. Therefore, the check may reject valid code. In return, the check need not resolve Rust names as a compiler
//! does.

use std::collections::HashMap;

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path in a source file, made absolute.
pub(crate) struct Named {
    /// `["std", "fs", "read"]`, `["crate", "io", "udp"]`.
    pub(crate) path: Vec<String>,
    pub(crate) what: What,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// `use a::b` or `extern crate a`.
    Import,
    /// `use a::*`.
    Glob,
    /// `a::b` in code.
    Path,
    /// `a::b!`.
    Macro,
}

/// Returns all Rust paths in `source`, the content of one source file. `module` is the module of this file, such as `["wire", "header"]`.
pub(crate) fn named(source: &str, module: &[String]) -> syn::Result<Vec<Named>> {
    let mut collector = Collector::new(module);
    collector.visit_file(&syn::parse_file(source)?);
    Ok(collector.into_named())
}

/// The Rust paths in the code of one file, and the names that this file imports. Paths in `mod tests` are excluded. A Rust path in another
/// file may use a re-export in this file. The imported names are needed to resolve such a path.
pub(crate) struct CodePaths {
    /// All paths except those of re-exports (`pub use`).
    pub(crate) named: Vec<Vec<String>>,
    /// The imported and re-exported names with their paths.
    pub(crate) imports: HashMap<String, Vec<Vec<String>>>,
}

/// Returns the [`CodePaths`] of `source`, the content of one source file. `module` is the module of this file.
pub(crate) fn code_paths(source: &str, module: &[String]) -> syn::Result<CodePaths> {
    let file = syn::parse_file(source)?;
    let mut collector = Collector::new(module);
    for item in &file.items {
        match item {
            syn::Item::Mod(tests) if tests.ident == "tests" => {}
            syn::Item::Use(re_export) if !matches!(re_export.vis, syn::Visibility::Inherited) => {
                let found = collector.found.len();
                collector.visit_item(item);
                collector.found.truncate(found);
            }
            _ => collector.visit_item(item),
        }
    }
    let imports = collector.imports.clone();
    Ok(CodePaths { named: collector.into_named().into_iter().map(|named| named.path).collect(), imports })
}

/// Returns `path` and its expanded paths. If the file imports the first segment of `path`, the imported path replaces this segment. For
/// example, `use a::b` expands the path `b::c` to `a::b::c`. If a result would start with `core` or `alloc`, the result
/// starts with `std` instead.
fn resolve(path: &[String], imports: &HashMap<String, Vec<Vec<String>>>, depth: usize) -> Vec<Vec<String>> {
    let mut path = path.to_vec();
    if matches!(path[0].as_str(), "core" | "alloc") {
        path[0] = String::from("std");
    }
    // Imports may refer to each other. The search follows at most eight imports. No real chain of imports is longer. The limit also ends
    // the search if imports form a cycle.
    let targets = if depth < 8 { imports.get(&path[0]) } else { None };
    let mut resolved = vec![path.clone()];
    for target in targets.into_iter().flatten().filter(|target| target[0] != path[0] || target.len() > 1) {
        let longer: Vec<String> = target.iter().chain(&path[1..]).cloned().collect();
        resolved.extend(resolve(&longer, imports, depth + 1));
    }
    resolved
}

struct Collector {
    /// The path of the current module, which may be an inline module.
    module: Vec<String>,
    found: Vec<Named>,
    imports: HashMap<String, Vec<Vec<String>>>,
}

impl Collector {
    fn new(module: &[String]) -> Self {
        Self { module: module.to_vec(), found: Vec::new(), imports: HashMap::new() }
    }

    /// Returns the paths in the file. If a path begins with an imported name, the result also contains the expanded path: see [`resolve`].
    fn into_named(self) -> Vec<Named> {
        let Self { found, imports, .. } = self;
        let mut absolute = Vec::new();
        for Named { path, what, line } in found {
            // A single name in code, such as `rand`, may be a variable. Such a name counts as a path only if the file imports the name. A
            // single name in a `use` always counts as a path. In a macro call, the macro's name counts as a path even without an import.
            let bare = what == What::Path && path.len() == 1;
            absolute.extend(
                resolve(&path, &imports, 0)
                    .into_iter()
                    .filter(|resolved| !(bare && *resolved == path))
                    .map(|path| Named { path, what, line }),
            );
        }
        absolute
    }

    /// `self::` and `super::` become `crate::…`.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let mut base = self.module.clone();
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = others;
        }
        if rest.len() == path.len() {
            return path.to_vec();
        }
        std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
    }

    fn note(&mut self, path: &[String], what: What, span: Span) {
        // In a macro body, `super` without a following `::` belongs to `pub(super)`. Such a `super` is not the path of an item.
        if !path.is_empty() && path != ["super"] {
            self.found.push(Named { path: self.absolute(path), what, line: span.start().line });
        }
    }

    fn import(&mut self, path: &[String], name: &Ident, span: Span) {
        self.note(path, What::Import, span);
        let target = self.absolute(path);
        self.imports.entry(name.to_string()).or_default().push(target);
    }

    fn use_tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |ident: &Ident| {
            // `use a::b::{self}` is `use a::b`.
            let last = (prefix.is_empty() || ident != "self").then(|| ident.to_string());
            prefix.iter().cloned().chain(last).collect::<Vec<_>>()
        };
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(prefix, tree)),
            syn::UseTree::Glob(glob) => self.note(prefix, What::Glob, glob.star_token.spans[0]),
            syn::UseTree::Rename(rename) => self.import(&with(&rename.ident), &rename.rename, rename.ident.span()),
            syn::UseTree::Name(name) => {
                let path = with(&name.ident);
                let last = Ident::new(&path[path.len() - 1], name.ident.span());
                self.import(&path, &last, name.ident.span());
            }
        }
    }

    /// Finds the paths in `tokens`. The grammar of the tokens is unknown. Therefore, names joined by `::` and groups of names after a `::`
    /// count as paths. If `tokens` is the content of a group in braces, `prefix` is the path before this group. `imports` is set inside a
    /// `use`.
    fn tokens(&mut self, prefix: &[String], mut imports: bool, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, mark: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == mark);
        let mut begins = true;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            let first = match token {
                TokenTree::Ident(word) if word == "use" => {
                    imports = true;
                    continue;
                }
                TokenTree::Ident(first) => first,
                TokenTree::Group(group) => {
                    self.tokens(&[], false, group.stream());
                    continue;
                }
                TokenTree::Punct(mark) => {
                    begins = mark.as_char() == ',';
                    imports &= mark.as_char() != ';';
                    continue;
                }
                TokenTree::Literal(_) => continue,
            };
            // A name after one dot is a field or a method. A name after two dots is the end of a range.
            if at > 1 && is(at - 2, '.') && !(at > 2 && is(at - 3, '.')) {
                continue;
            }
            let mut path = if begins { prefix.to_vec() } else { Vec::new() };
            begins = false;
            let mut last = first;
            path.extend((first != "self" || path.is_empty()).then(|| first.to_string()));
            while is(at, ':') && is(at + 1, ':') {
                match tokens.get(at + 2) {
                    Some(TokenTree::Ident(next)) => {
                        path.push(next.to_string());
                        last = next;
                    }
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                        self.tokens(&path, imports, group.stream());
                    }
                    _ if is(at + 2, '*') => self.note(&path, What::Glob, first.span()),
                    _ => break,
                }
                at += 3;
            }
            if is(at, '!') && matches!(tokens.get(at + 1), Some(TokenTree::Group(_))) {
                self.note(&path, What::Macro, first.span());
            } else if imports {
                let renamed = matches!(tokens.get(at), Some(TokenTree::Ident(word)) if word == "as");
                let name = match tokens.get(at + 1) {
                    Some(TokenTree::Ident(name)) if renamed => {
                        at += 2;
                        name
                    }
                    _ => last,
                };
                self.import(&path, name, first.span());
            } else {
                self.note(&path, What::Path, first.span());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&[], &item.tree);
        visit::visit_item_use(self, item);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
        self.import(&[item.ident.to_string()], name, item.ident.span());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    /// The path in `pub(in crate::x)` uses nothing of `x`.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.note(&names(path), What::Path, path.segments[0].ident.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note(&names(&call.path), What::Macro, call.path.segments[0].ident.span());
        self.tokens(&[], false, call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&[], false, list.tokens.clone());
        visit::visit_meta_list(self, list);
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}
