//! Rows of cells as lines, each column as wide as it must be.

/// The first `left` columns stand left, as words do, the others right, as numbers do.
pub(super) fn table(rows: &[Vec<String>], left: usize) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < left { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A text as a terminal may get it: a client chose some of them, and what controls a terminal is no name.
fn printable(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for letter in cell.chars() {
        match letter.is_control() {
            true => text.extend(letter.escape_debug()),
            false => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_draw_rows_of_its_own() {
        let rows =
            [["model", "1"], ["\u{1b}[2Ja\nb", "22"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, 1), "model           1\n\\u{1b}[2Ja\\nb  22");
    }
}
