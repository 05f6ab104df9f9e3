//! Reads of an INF what NDIS and the driver see: the install section's directives, and the keywords
//! with their defaults.
//!
//! An INF is parsed as SetupAPI does: sections of the same name are one, names compare without case,
//! `%string%` is replaced, `;` begins a comment outside of quotes, a `\` at the end continues a line.
//! Decorations choose x64 (`NTamd64`, with or without a version); an `.inx` is read as if `$ARCH$`
//! were that.

use std::collections::HashMap;

use crate::objects::{Keywords, Value};

/// Why an INF cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InfError {
    /// The file is neither UTF-8 nor UTF-16.
    #[error("the INF is neither UTF-8 nor UTF-16")]
    Encoding,
    /// It installs nothing on x64.
    #[error("the INF has no models for x64")]
    NoModels,
    /// A section that another one names is not there.
    #[error("the INF has no section [{0}]")]
    NoSection(String),
}

/// What an INF says about a miniport.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inf {
    /// The device's description.
    pub description: String,
    /// The hardware identifier of the first model.
    pub hardware_id: String,
    /// The service's name.
    pub service: Option<String>,
    /// `Characteristics`.
    pub characteristics: Option<u32>,
    /// `*IfType`.
    pub if_type: Option<u32>,
    /// `*MediaType`.
    pub media_type: Option<u32>,
    /// `*PhysicalMediaType`.
    pub physical_media_type: Option<u32>,
    /// Keywords with the values that a fresh installation has.
    pub keywords: Keywords,
}

/// One line: the part before `=`, if any, and the fields behind it.
type Line = (Option<String>, Vec<String>);

struct Sections(HashMap<String, Vec<Line>>);

impl Inf {
    /// Reads an INF from the bytes of a file.
    ///
    /// # Errors
    /// [`InfError`].
    pub fn read(bytes: &[u8]) -> Result<Self, InfError> {
        let text = match bytes {
            [0xff, 0xfe, rest @ ..] => {
                let units = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                char::decode_utf16(units).collect::<Result<String, _>>().map_err(|_| InfError::Encoding)?
            }
            [0xef, 0xbb, 0xbf, rest @ ..] => {
                String::from_utf8(rest.to_vec()).map_err(|_| InfError::Encoding)?
            }
            bytes => String::from_utf8(bytes.to_vec()).map_err(|_| InfError::Encoding)?,
        };
        Self::parse(&text)
    }

    /// Reads an INF from its text.
    ///
    /// # Errors
    /// [`InfError`].
    pub fn parse(text: &str) -> Result<Self, InfError> {
        let sections = Sections::parse(&text.replace("$ARCH$", "amd64"));
        let (description, install, hardware_id) = sections.model().ok_or(InfError::NoModels)?;
        let Some(lines) = sections.decorated(&install, "") else { return Err(InfError::NoSection(install)) };
        let number = |name: &str| {
            let line =
                lines.iter().find(|(key, _)| key.as_deref().is_some_and(|k| k.eq_ignore_ascii_case(name)));
            line.and_then(|(_, fields)| integer(fields.first()?))
        };
        let mut inf = Self {
            description,
            hardware_id,
            service: sections.service(&install),
            characteristics: number("Characteristics"),
            if_type: number("*IfType"),
            media_type: number("*MediaType"),
            physical_media_type: number("*PhysicalMediaType"),
            keywords: Keywords::new(),
        };
        let named =
            lines.iter().filter(|(key, _)| key.as_deref().is_some_and(|k| k.eq_ignore_ascii_case("AddReg")));
        let (mut defaults, mut values) = (Vec::new(), Vec::new());
        for name in named.flat_map(|(_, fields)| fields) {
            let lines = sections.get(name).ok_or_else(|| InfError::NoSection(name.clone()))?;
            for (_, fields) in lines {
                let field = |index: usize| fields.get(index).map_or("", String::as_str);
                if !field(0).eq_ignore_ascii_case("HKR") {
                    continue;
                }
                let path: Vec<_> = field(1).split('\\').filter(|part| !part.is_empty()).collect();
                let value = value(field(3), fields.get(4..).unwrap_or_default());
                match path.as_slice() {
                    [] if !field(2).is_empty() => values.push((field(2).to_owned(), value)),
                    [ndi, params, keyword]
                        if ndi.eq_ignore_ascii_case("Ndi")
                            && params.eq_ignore_ascii_case("params")
                            && field(2).eq_ignore_ascii_case("default") =>
                    {
                        defaults.push(((*keyword).to_owned(), value));
                    }
                    _ => {}
                }
            }
        }
        // What is set directly counts more than a default.
        for (name, value) in defaults.into_iter().chain(values) {
            inf.keywords.set(&name, value);
        }
        Ok(inf)
    }
}

/// A number as INFs write it.
fn integer(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A registry value, by the flags of AddReg.
fn value(flags: &str, fields: &[String]) -> Value {
    let first = fields.first().cloned().unwrap_or_default();
    match integer(flags).unwrap_or(0) & 0xffff_0001 {
        0x0001_0001 => Value::Dword(integer(&first).unwrap_or(0)),
        0x0001_0000 => Value::Texts(fields.to_vec()),
        1 => Value::Binary(fields.iter().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()),
        _ => Value::Text(first),
    }
}

impl Sections {
    fn parse(text: &str) -> Self {
        let mut raw: Vec<(String, String)> = Vec::new();
        let mut section = String::new();
        let mut pending = String::new();
        for line in text.lines() {
            let line = without_comment(line).trim();
            if let Some(begun) = line.strip_suffix('\\') {
                pending.push_str(begun);
                continue;
            }
            let line = std::mem::take(&mut pending) + line;
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                section = name.trim().to_ascii_lowercase();
                raw.push((section.clone(), String::new()));
            } else if !line.is_empty() {
                raw.push((section.clone(), line));
            }
        }
        let none = HashMap::new();
        let strings: HashMap<String, String> = raw
            .iter()
            .filter(|(section, line)| section == "strings" && !line.is_empty())
            .filter_map(|(_, line)| {
                let (key, fields) = split(line, &none);
                Some((key?.to_ascii_lowercase(), fields.into_iter().next().unwrap_or_default()))
            })
            .collect();
        let mut sections: HashMap<String, Vec<Line>> = HashMap::new();
        for (section, line) in raw {
            let lines = sections.entry(section).or_default();
            if !line.is_empty() {
                lines.push(split(&line, &strings));
            }
        }
        Self(sections)
    }

    fn get(&self, name: &str) -> Option<&[Line]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// A section by its name with the decoration that fits best, and a suffix.
    fn decorated(&self, name: &str, suffix: &str) -> Option<&[Line]> {
        ["NTamd64", "NT"]
            .iter()
            .find_map(|decoration| self.get(&format!("{name}.{decoration}{suffix}")))
            .or_else(|| self.get(&format!("{name}{suffix}")))
    }

    /// The first model for x64: description, install section, hardware identifier.
    fn model(&self) -> Option<(String, String, String)> {
        for (_, fields) in self.get("Manufacturer")? {
            let (models, targets) = fields.split_first()?;
            let x64 = |target: &&String| target.to_ascii_lowercase().starts_with("ntamd64");
            let decorated = targets.iter().filter(x64).map(|target| format!("{models}.{target}"));
            for name in decorated.chain(targets.is_empty().then(|| models.clone())) {
                let found = self.get(&name).and_then(<[Line]>::first);
                if let Some((Some(description), fields)) = found {
                    let install = fields.first()?.clone();
                    return Some((description.clone(), install, fields.get(1).cloned().unwrap_or_default()));
                }
            }
        }
        None
    }

    fn service(&self, install: &str) -> Option<String> {
        let lines = self.decorated(install, ".Services")?;
        let line = lines
            .iter()
            .find(|(key, _)| key.as_deref().is_some_and(|k| k.eq_ignore_ascii_case("AddService")));
        line.and_then(|(_, fields)| fields.first().cloned())
    }
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ';' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Splits a line into its key and fields, without quotes and with strings put in.
fn split(line: &str, strings: &HashMap<String, String>) -> Line {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut literal, mut key) = (false, false, None);
    let mut characters = line.chars().peekable();
    let finish = |part: &mut String, literal: &mut bool| {
        let taken = std::mem::take(part);
        let text = if std::mem::take(literal) { taken } else { taken.trim().to_owned() };
        expand(&text, strings)
    };
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => {
                if !quoted {
                    part.clear();
                }
                quoted = !quoted;
                literal = true;
            }
            ',' if !quoted => parts.push(finish(&mut part, &mut literal)),
            '=' if !quoted && key.is_none() && parts.is_empty() => {
                key = Some(finish(&mut part, &mut literal));
            }
            // Blanks behind a quoted field are not part of it.
            blank if literal && !quoted && blank.is_whitespace() => {}
            other => part.push(other),
        }
    }
    parts.push(finish(&mut part, &mut literal));
    (key, parts)
}

/// Replaces `%name%`; `%%` is a percent sign.
fn expand(text: &str, strings: &HashMap<String, String>) -> String {
    let mut parts = text.split('%');
    let mut output = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<_> = parts.collect();
    let mut index = 0;
    while index < rest.len() {
        match (rest[index], rest.get(index + 1)) {
            ("", Some(after)) => {
                output.push('%');
                output.push_str(after);
            }
            (name, Some(after)) => {
                if let Some(value) = strings.get(&name.to_ascii_lowercase()) {
                    output.push_str(value);
                } else {
                    output.extend(["%", name, "%"]);
                }
                output.push_str(after);
            }
            (name, None) => {
                output.extend(["%", name]);
            }
        }
        index += 2;
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
; a comment
[Version]
Signature = "$Windows NT$"
[Manufacturer]
%Maker% = Models, NTx86, NTamd64.10.0...19041, NTarm64
[Models.NTamd64.10.0...19041]
%Device% = Install, Root\Thing ; behind
[Install.NT]
Characteristics = 0x1
AddReg = Ndi, \
         More
*IfType = 6
*MediaType = 0
[Install.NT.Services]
AddService = thing, 2, Service
[Ndi]
HKR, Ndi, Service, 0, "thing"
HKR, Ndi\params\*JumboPacket, ParamDesc, 0, "Jumbo; ""Frames"", 100%%"
HKR, Ndi\params\*JumboPacket, Default, 0, "1514"
HKR, ndi\PARAMS\Queues, default, , 4
HKR, Ndi\params\Queues\enum, "4", 0, "four"
[More]
HKR,, Queues, 0x00010001, 0x8
HKR,, Names, 0x00010000, one, %Device%
HKLM, Elsewhere, Value, 0, "no"
[Strings]
Maker = "We"
Device = "A ""thing"""
"#;

    #[test]
    fn keywords_and_directives_are_read() {
        let inf = Inf::parse(TEXT).unwrap();
        assert_eq!((inf.description.as_str(), inf.hardware_id.as_str()), ("A \"thing\"", "Root\\Thing"));
        assert_eq!(inf.service.as_deref(), Some("thing"));
        assert_eq!((inf.characteristics, inf.if_type, inf.media_type), (Some(1), Some(6), Some(0)));
        assert_eq!(inf.physical_media_type, None);
        assert_eq!(inf.keywords.get("*JUMBOPACKET"), Some(&Value::Text("1514".into())));
        assert_eq!(inf.keywords.get("Queues"), Some(&Value::Dword(8)));
        let names = Value::Texts(vec!["one".into(), "A \"thing\"".into()]);
        assert_eq!(inf.keywords.get("Names"), Some(&names));
        assert_eq!(inf.keywords.iter().count(), 3);
        // The same in UTF-16, as many INFs are.
        let wide: Vec<u8> = "\u{feff}"
            .chars()
            .chain(TEXT.chars())
            .collect::<String>()
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(Inf::read(&wide).unwrap(), inf);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Inf::parse(""), Err(InfError::NoModels));
        assert_eq!(Inf::parse(&TEXT.replace("[More]", "[Less]")), Err(InfError::NoSection("More".into())));
        assert_eq!(
            Inf::parse(&TEXT.replace("[Install.NT]", "[Other]")),
            Err(InfError::NoSection("Install".into()))
        );
        assert_eq!(Inf::parse(&TEXT.replace("NTamd64", "NTia64")), Err(InfError::NoModels));
        assert_eq!(Inf::read(&[0xff, 0xfe, 0, 0xd8]), Err(InfError::Encoding));
        assert_eq!(Inf::read(&[0x80]), Err(InfError::Encoding));
    }
}
