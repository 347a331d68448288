//! The table of rules refers to existing sections.

use jamjam_measure::check::RULES;

const PROTOCOL: &str = include_str!("../../../../../docs/protocol.md");

#[test]
fn each_rule_names_a_section_of_the_protocol() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect::<String>()
    };
    let anchors: Vec<String> = PROTOCOL.lines().filter(|line| line.starts_with("##")).map(anchor).collect();
    for rule in &RULES {
        assert!(anchors.iter().any(|anchor| anchor == rule.section), "{}: {}", rule.id, rule.section);
    }
}
