//! The pages that repeat what the code says: they are written by it, and checked here.

use std::path::Path;

use crate::support::gateway::written;

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- /settings -->";

/// With `UPDATE_DOCS=1` in the environment the table is written instead.
fn table_stands_in(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = written(&path);
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let wanted = sluice::config::settings_table();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(table == wanted, "{page}: UPDATE_DOCS=1 cargo test --test gateway documents writes it");
}

#[test]
fn the_readme_has_every_setting() {
    table_stands_in("README.md");
}

#[test]
fn the_readme_in_russian_has_every_setting() {
    table_stands_in("README.ru.md");
}
