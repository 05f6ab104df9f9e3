//! An INF as setupapi is documented to read it (`general-syntax-rules-for-inf-files`), to compare with how Wine does:
//! sections, lines, fields, strings. What our INF does not use (continued lines, layout files) is not here.

use std::collections::HashMap;

/// A section, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What stands in brackets.
    pub name: String,
    /// Fields of each line. The first is the key, empty if the line has none.
    pub lines: Vec<Vec<String>>,
}

/// The sections of an INF, strings replaced. `%13%` and the like, folders by number, stay as they are.
pub fn sections(text: &str) -> Vec<Section> {
    let raw = raw_sections(text);
    let strings: HashMap<String, &str> = raw
        .iter()
        .filter(|section| section.name.eq_ignore_ascii_case("Strings"))
        .flat_map(|section| &section.lines)
        .filter_map(|line| Some((line.first()?.to_lowercase(), line.get(1)?.as_str())))
        .collect();
    let replace = |section: &Section| Section {
        name: section.name.clone(),
        lines: section
            .lines
            .iter()
            .map(|line| line.iter().map(|f| replaced(f, &strings)).collect())
            .collect(),
    };
    raw.iter().map(replace).collect()
}

/// What `tests/wine/install list` prints.
///
/// # Errors
/// The line that is no section and stands before the first.
pub fn listed(listing: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), lines: Vec::new() });
        } else {
            let section = sections.last_mut().ok_or_else(|| line.to_owned())?;
            section.lines.push(line.split('\t').map(str::to_owned).collect());
        }
    }
    Ok(sections)
}

/// The value of `key = value`, in the first section of that name.
pub fn value<'a>(sections: &'a [Section], section: &str, key: &str) -> Option<&'a str> {
    let section = sections.iter().find(|found| found.name.eq_ignore_ascii_case(section))?;
    let line = section.lines.iter().find(|line| line[0].eq_ignore_ascii_case(key))?;
    line.get(1).map(String::as_str)
}

/// `Default` of every keyword of a type that is a number, by keyword: from `HKR, Ndi\params\<keyword>, Default, 0, <n>`.
pub fn numeric_defaults(sections: &[Section]) -> HashMap<&str, u32> {
    let lines = sections.iter().flat_map(|section| &section.lines);
    lines
        .filter_map(|line| match line.as_slice() {
            [_, root, key, name, _, data] if root == "HKR" && name == "Default" => {
                Some((key.strip_prefix("Ndi\\params\\")?, data.parse().ok()?))
            }
            _ => None,
        })
        .collect()
}

fn raw_sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let (key, fields) = fields(line);
        match (key, fields.as_slice()) {
            (None, []) => {}
            (None, [only]) if only.starts_with('[') && only.ends_with(']') => {
                let name = only[1..only.len() - 1].to_owned();
                sections.push(Section { name, lines: Vec::new() });
            }
            (key, values) => {
                // A line that is one value has it as its key too.
                let key = key.or_else(|| if let [only] = values { Some(only.clone()) } else { None });
                let line = std::iter::once(key.unwrap_or_default()).chain(values.iter().cloned()).collect();
                if let Some(section) = sections.last_mut() {
                    section.lines.push(line);
                }
            }
        }
    }
    sections
}

/// Key and values of a line: without comment, without blanks round each, without quotation marks.
fn fields(line: &str) -> (Option<String>, Vec<String>) {
    let (mut key, mut values, mut field, mut quoted, mut blank) = (None, Vec::new(), String::new(), false, 0);
    let mut characters = line.chars().peekable();
    let mut any = false;
    let end = |field: &mut String, blank: &mut usize| {
        field.truncate(field.len() - std::mem::take(blank));
        std::mem::take(field)
    };
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => (quoted, any, blank) = (!quoted, true, 0),
            _ if quoted => field.push(character),
            ';' => break,
            ',' => {
                values.push(end(&mut field, &mut blank));
                any = true;
            }
            '=' if key.is_none() && values.is_empty() => key = Some(end(&mut field, &mut blank)),
            ' ' | '\t' if field.is_empty() => {}
            ' ' | '\t' => {
                field.push(character);
                blank += 1;
            }
            _ => {
                field.push(character);
                (blank, any) = (0, true);
            }
        }
    }
    if any || key.is_some() {
        values.push(end(&mut field, &mut blank));
    }
    (key, values)
}

/// `%name%` replaced by its string, `%%` by `%`; a name without a string stays.
fn replaced(field: &str, strings: &HashMap<String, &str>) -> String {
    let mut result = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('%') {
        result.push_str(before);
        let Some((name, after)) = after.split_once('%') else {
            rest = &rest[before.len()..];
            break;
        };
        match strings.get(&name.to_lowercase()) {
            _ if name.is_empty() => result.push('%'),
            Some(string) => result.push_str(string),
            None => result.extend(["%", name, "%"]),
        }
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let of = |line| fields(line);
        let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        assert_eq!(of("  ; nothing"), (None, vec![]));
        assert_eq!(of(" key = a , \"b, \"\";\" ; c"), (Some("key".into()), values(&["a", "b, \";"])));
        assert_eq!(of("HKR, , \"\", 0,"), (None, values(&["HKR", "", "", "0", ""])));
        assert_eq!(of("key ="), (Some("key".into()), values(&[""])));
        assert_eq!(of("a = b=c"), (Some("a".into()), values(&["b=c"])));
    }

    #[test]
    fn strings_are_replaced_and_folders_stay() {
        let text = "[A]\r\n%Who% = %13%\\%who%.sys, \"%%x%%\", 5%\r\nonly\r\n[Strings]\r\nWho = \"me\"\r\n";
        let expected = [("A", vec![vec!["me", "%13%\\me.sys", "%x%", "5%"], vec!["only", "only"]])];
        let found = sections(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), &found[0].lines.len()), (expected[0].0, &2));
        assert_eq!(found[0].lines, expected[0].1);
        assert_eq!(value(&found, "strings", "who"), Some("me"));
    }
}
