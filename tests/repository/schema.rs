//! The JSON schema and the definitions of all fields, which follow from the columns of the reports, and the rules of checks.
//! `UPDATE_DOCS=1 cargo test --test repository schema` rewrites them, and without `schema` also the tables of options.

use std::fs;
use std::path::Path;

use jamjam_dev::check::rule_table;
use jamjam_dev::cli::signaling_caps::cap_table;
use jamjam_dev::document::schema::definitions;
use jamjam_dev::report;

/// Above generated tables, which end a page.
const MARKER: &str = "<!-- generated -->\n";

/// The page with other tables.
pub(crate) fn with_tables(page: &str, tables: &str) -> String {
    let (prose, _) = page.split_once(MARKER).expect("a marker");
    format!("{prose}{MARKER}{tables}")
}

#[track_caller]
pub(crate) fn assert_page(name: &str, fresh: impl Fn(&str) -> String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let page = fs::read_to_string(&file).unwrap_or_default();
    let fresh = fresh(&page);
    if page != fresh && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, fresh).unwrap();
        return;
    }
    assert!(page == fresh, "docs/{name} is stale: UPDATE_DOCS=1 cargo test --test repository");
}

#[test]
fn schema_and_definitions_of_all_fields_follow_from_the_columns() {
    assert_page("report.schema.json", |_| format!("{:#}\n", report::schema()));
    assert_page("measuring.md", |page| with_tables(page, &definitions(&report::BODIES)));
    assert_page("rules.md", |page| with_tables(page, &rule_table()));
    assert_page("signaling-server.md", |page| with_tables(page, &cap_table()));
}
