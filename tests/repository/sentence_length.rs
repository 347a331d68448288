//! Sentences in comments and docs have at most [`MAX_WORDS`] words. Readers misunderstand longer sentences more often.

use std::fs;
use std::path::{Path, PathBuf};

use super::plain_words::{files, pages, root};

/// Maximum number of words in a sentence.
const MAX_WORDS: usize = 24;

/// The paragraphs of comments in Rust. Each paragraph has the number of its first line.
fn comment_paragraphs(text: &str) -> Vec<(usize, String)> {
    paragraphs(text.lines().map(|line| {
        let (_, comment) = line.split_once("//").filter(|(code, _)| code.trim().is_empty())?;
        let comment = comment.strip_prefix(['/', '!']).unwrap_or(comment);
        Some(comment.strip_prefix(' ').unwrap_or(comment))
    }))
}

/// Joins the lines of each paragraph. A blank line, a heading, a list item, a table row and a code block end a paragraph. A line of code
/// also ends a paragraph. In `lines`, the value `None` represents a line of code.
fn paragraphs<'a>(lines: impl Iterator<Item = Option<&'a str>>) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let (mut continues, mut in_code_block) = (false, false);
    for (number, line) in (1..).zip(lines) {
        let line = line.unwrap_or_default();
        if line.trim_start().starts_with("```") {
            (continues, in_code_block) = (false, !in_code_block);
        } else if in_code_block || line.trim().is_empty() || line.starts_with(['#', '|']) {
            continues = false;
        } else {
            let line = line.trim();
            let item = line.strip_prefix("- ").or(line.strip_prefix("* "));
            match paragraphs.last_mut() {
                Some((_, paragraph)) if continues && item.is_none() => paragraph.extend([" ", line]),
                _ => paragraphs.push((number, item.unwrap_or(line).to_owned())),
            }
            continues = true;
        }
    }
    paragraphs
}

/// The sentences of a paragraph. A sentence ends with a period, colon, exclamation mark or question mark. The characters
/// `*`, `)` and `"` may follow this punctuation mark.
fn sentences(paragraph: &str) -> Vec<Vec<&str>> {
    let ends_sentence = |word: &&str| word.trim_end_matches(['*', ')', '"']).ends_with(['.', ':', '!', '?']);
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.split_inclusive(ends_sentence).map(<[&str]>::to_vec).collect()
}

fn violations(name: &str, paragraphs: &[(usize, String)]) -> Vec<String> {
    let long = paragraphs.iter().flat_map(|(number, paragraph)| {
        let long = sentences(paragraph).into_iter().filter(|words| words.len() > MAX_WORDS);
        long.map(|words| format!("{name}:{number}: {} words: {}", words.len(), words.join(" "))).collect::<Vec<_>>()
    });
    long.collect()
}

#[test]
fn sentences_in_comments_and_docs_are_short() {
    let mut found = Vec::new();
    let mut check = |path: &Path, paragraphs: fn(&str) -> Vec<(usize, String)>| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        found.extend(violations(&name, &paragraphs(&fs::read_to_string(path).unwrap())));
    };
    for folder in ["src", "tests", "benches/ws_load/src", "examples"] {
        let mut rust: Vec<PathBuf> = Vec::new();
        files(&root().join(folder), "rs", &mut rust);
        for path in &rust {
            check(path, comment_paragraphs);
        }
    }
    for path in &pages() {
        check(path, |text| paragraphs(text.lines().map(Some)));
    }
    assert!(found.is_empty(), "{} sentences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn long_sentence_is_found_in_comments_and_docs() {
    let words = |count: usize| format!("Word{}.", " word".repeat(count - 1));
    let (short, long) = (words(MAX_WORDS), words(MAX_WORDS + 1));
    let comment = format!("    /// {short} {short}\n    /// {}\n", long.replacen(" word", "\n    /// word", 1));
    assert_eq!(violations("a", &comment_paragraphs(&comment)).len(), 1);
    assert_eq!(
        violations("a", &comment_paragraphs(&format!("//! - {short}\n//! - {long}\nlet a = \"{long}\";"))).len(),
        1
    );
    let page = format!("# {long}\n\n{short}\n{long}\n\n- {short}\n- {long}\n\n| {long} |\n\n```\n{long}\n```\n");
    assert_eq!(violations("a", &paragraphs(page.lines().map(Some))).len(), 2);
}
