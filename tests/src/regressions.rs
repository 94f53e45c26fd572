//! `tests/REGRESSIONS.md` names tests that exist.

use std::path::Path;

/// What stands between backquotes and has the form `file::test`.
fn named(table: &str) -> Vec<(&str, &str)> {
    let quoted = table.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once("::")).collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = std::fs::read_to_string(root.join("tests/REGRESSIONS.md")).expect("the table");
    let named = named(&table);
    // No stray backquote hides one.
    assert_eq!(named.len(), table.matches(".rs::").count());
    let missing = named.into_iter().filter(|(file, test)| {
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        !source.contains(&format!("fn {test}("))
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:?}");
}
