//! The tables of a document, which follow from its columns, and what of them is printed. The printers only arrange the cells.

use serde_json::{Map, Value};

use super::Document;
use super::column::{Column, Columns, Place};

/// Tables with at most so many rows have a line for each column.
const MAX_ROWS_AS_COLUMNS: usize = 3;

/// Rows of a document with the same columns.
pub struct Table<'a> {
    /// The last part of its place in the JSON document.
    pub title: String,
    /// Whether it is printed only on the page.
    is_page_only: bool,
    /// The columns that are printed somewhere.
    pub columns: Vec<TableColumn>,
    /// Its rows.
    pub rows: Vec<Row<'a>>,
}

/// A column of a table.
pub struct TableColumn {
    /// What people call it.
    pub label: String,
    /// Its declaration.
    pub column: &'static Column,
    /// Where it is in the object of a row.
    path: Vec<&'static str>,
}

/// A row of a table.
pub struct Row<'a> {
    /// What it is about; empty in a table of one row.
    pub subject: String,
    /// A value for each column.
    pub values: Vec<&'a Value>,
}

/// The printed cells of a table.
pub(super) struct Grid {
    /// Above the cells; empty texts if they need none.
    pub(super) heads: Vec<Label>,
    /// What stands before the cells of each line, and the cells.
    pub(super) lines: Vec<(Label, Vec<String>)>,
    /// Whether a line is a column of the table, not a row.
    pub(super) is_turned: bool,
}

/// A row or a column of a table by its name.
pub(super) struct Label {
    pub(super) text: String,
    /// What a column means; empty for a row.
    pub(super) description: String,
}

impl Document {
    /// The tables of the body.
    pub fn tables(&self) -> Vec<Table<'_>> {
        let mut tables = Vec::new();
        add_tables("", self.columns, &self.body, &mut tables);
        tables
    }
}

/// Adds the tables of an object: its own values, and those of its rows.
fn add_tables<'a>(title: &str, columns: &'static Columns, object: &'a Map<String, Value>, tables: &mut Vec<Table<'a>>) {
    let nested = columns.columns.iter().filter(|column| column.is_printed());
    let nested: Vec<_> = nested.filter_map(|column| Some((column, column.shape.rows()?))).collect();
    if nested.len() > 1 && nested.len() == columns.columns.len() && nested.iter().all(|(_, (_, is_list))| !is_list) {
        // The rows of an object that has only rows, such as the streams, are a table.
        let rows =
            nested.iter().filter_map(|(column, _)| Some((column.label(), object.get(column.name)?.as_object()?)));
        tables.extend(Table::new(title, nested[0].1.0, rows, true));
        return;
    }
    tables.extend(Table::new(title, columns, [(String::new(), object)].into_iter(), false));
    for (column, (of_rows, _)) in nested {
        match object.get(column.name) {
            Some(Value::Object(object)) => add_tables(&column.label(), of_rows, object, tables),
            Some(Value::Array(rows)) => {
                let rows = (1..).zip(rows.iter().filter_map(Value::as_object));
                let rows = rows.map(|(number, row)| (number.to_string(), row));
                let table = Table::new(format!("{title} {}", column.label()).trim_start(), of_rows, rows, true);
                tables.extend(table.map(|table| Table { is_page_only: column.place == Place::page, ..table }));
            }
            _ => {}
        }
    }
}

/// What a row is about, in the words of judgments: `room 1, Anna to Ben, outage 1`.
fn subject(columns: &[&Column], row: &Map<String, Value>) -> String {
    let is_way = |column: &Column| ["from", "to"].contains(&column.name);
    let mut text = String::new();
    for (index, column) in columns.iter().enumerate() {
        if is_way(column) && index > 0 && is_way(columns[index - 1]) {
            text.extend([" ", column.name, " "]);
        } else if index > 0 {
            text += ", ";
        }
        let value = &row[column.name];
        // A number with a unit says what it is.
        if value.is_number() && column.label() == column.name {
            text.extend([column.name, " "]);
        }
        text += &column.format(value);
    }
    text
}

/// The columns of a row that are printed somewhere. Those of a row within a row follow with its name if `is_flat`.
fn table_columns(columns: &'static Columns, is_flat: bool, outer: &[&'static Column], all: &mut Vec<TableColumn>) {
    for column in columns.columns.iter().filter(|column| column.is_printed()) {
        let parts = [outer, &[column]].concat();
        match column.shape.rows() {
            None => {
                let (label, path): (Vec<String>, _) = parts.iter().map(|part| (part.label(), part.name)).unzip();
                all.push(TableColumn { label: label.join(" "), column, path });
            }
            Some((inner, false)) if is_flat => table_columns(inner, true, &parts, all),
            Some(_) => {}
        }
    }
}

impl<'a> Table<'a> {
    /// The rows with their names, which their subjects replace; `None` without a row or a value that is printed.
    fn new(
        title: &str,
        columns: &'static Columns,
        rows: impl Iterator<Item = (String, &'a Map<String, Value>)>,
        is_flat: bool,
    ) -> Option<Self> {
        let subjects: Vec<_> = columns.columns.iter().filter(|column| column.place == Place::subject).collect();
        let mut all = Vec::new();
        table_columns(columns, is_flat, &[], &mut all);
        let row = |(name, object): (String, &'a Map<String, Value>)| {
            let subject = if subjects.is_empty() { name } else { subject(&subjects, object) };
            let value = |column: &TableColumn| {
                let (first, rest) = column.path.split_first()?;
                rest.iter().try_fold(object.get(*first)?, |value, name| value.get(name))
            };
            Row { subject, values: all.iter().map(|column| value(column).unwrap_or(&Value::Null)).collect() }
        };
        let rows: Vec<_> = rows.map(row).collect();
        let has_cells = !all.is_empty() && !rows.is_empty();
        has_cells.then(|| Self { title: title.to_owned(), is_page_only: false, columns: all, rows })
    }

    /// The positions of the columns that are printed in a short or a full text, or on the page. A column without a value is not.
    pub(super) fn visible(&self, up_to: Place) -> Vec<usize> {
        let is_visible = |position: &usize| {
            let place = self.columns[*position].column.place;
            let has_zeros = place != Place::problem || up_to > Place::short;
            let mut values = self.rows.iter().map(|row| row.values[*position]);
            let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            place <= up_to && values.any(|value| !is_empty(value) && (has_zeros || value.as_f64() != Some(0.0)))
        };
        let columns = if self.is_page_only && up_to < Place::page { 0 } else { self.columns.len() };
        (0..columns).filter(is_visible).collect()
    }

    /// The cells that are printed in a short or a full text, or on the page: a line for each row, or for each column of a few rows.
    pub(super) fn grid(&self, up_to: Place) -> Option<Grid> {
        let columns: Vec<_> =
            self.visible(up_to).into_iter().map(|position| (position, &self.columns[position])).collect();
        let label = |(_, column): &(usize, &TableColumn)| Label {
            text: column.label.clone(),
            description: column.column.description(),
        };
        let line = |row: &Row<'_>| {
            let cells = columns.iter().map(|(position, one)| one.column.format(row.values[*position]));
            (Label { text: row.subject.clone(), description: String::new() }, cells.collect())
        };
        let (mut heads, lines): (Vec<Label>, _) =
            (columns.iter().map(label).collect(), self.rows.iter().map(line).collect());
        let is_named = self.rows.iter().all(|row| !row.subject.is_empty());
        if let ([(position, _)], true) = (&columns[..], is_named)
            && self.rows.iter().all(|row| row.values[*position].is_string())
        {
            // Texts about subjects need no head.
            heads[0].text.clear();
            return Some(Grid { heads, lines, is_turned: false });
        }
        let grid = Grid { heads, lines, is_turned: false };
        let grid = if self.rows.len() <= MAX_ROWS_AS_COLUMNS { grid.turned() } else { grid };
        (!columns.is_empty()).then_some(grid)
    }
}

impl Grid {
    /// With columns as lines, and lines as columns.
    pub(super) fn turned(self) -> Self {
        let line =
            |(index, head): (usize, _)| (head, self.lines.iter().map(|(_, cells)| cells[index].clone()).collect());
        let lines = self.heads.into_iter().enumerate().map(line).collect();
        Self { heads: self.lines.into_iter().map(|(label, _)| label).collect(), lines, is_turned: !self.is_turned }
    }

    /// Whether the cells need no head.
    pub(super) fn is_list(&self) -> bool {
        self.heads.iter().all(|head| head.text.is_empty())
    }
}
