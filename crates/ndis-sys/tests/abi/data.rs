//! The WDK's numbers, from `tests/data`.

use serde_json::Value;
use std::collections::BTreeMap;

/// A field of a structure; paths of nested fields have dots.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) path: String,
    pub(crate) offset: usize,
    pub(crate) c_type: String,
    /// First and last bit in the byte at `offset`.
    pub(crate) bits: Option<(usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Prototype {
    pub(crate) returns: String,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) variadic: bool,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) layouts: BTreeMap<String, Layout>,
    pub(crate) constants: BTreeMap<String, u64>,
    pub(crate) enums: BTreeMap<String, BTreeMap<String, i64>>,
    pub(crate) functions: BTreeMap<String, Prototype>,
    pub(crate) callbacks: BTreeMap<String, Prototype>,
    pub(crate) exports: BTreeMap<String, Vec<String>>,
}

fn table<T>(text: &str, convert: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    let value: Value = serde_json::from_str(text).unwrap();
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), convert(value))).collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn field(value: &Value) -> Field {
    Field {
        path: string(&value[0]),
        offset: number(&value[1]),
        c_type: string(&value[2]),
        bits: value.get(3).map(|bits| (number(&bits[0]), number(&bits[1]))),
    }
}

fn layout(value: &Value) -> Layout {
    Layout {
        size: number(&value["size"]),
        align: number(&value["align"]),
        fields: value["fields"].as_array().unwrap().iter().map(field).collect(),
    }
}

fn prototype(value: &Value) -> Prototype {
    Prototype {
        returns: string(&value["ret"]),
        parameters: value["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| (string(&parameter[0]), string(&parameter[1])))
            .collect(),
        variadic: value["variadic"].as_bool().unwrap_or(false),
    }
}

impl Data {
    pub(crate) fn load() -> Self {
        let hexadecimal = |value: &Value| u64::from_str_radix(&string(value)[2..], 16).unwrap();
        let strings = |value: &Value| value.as_array().unwrap().iter().map(string).collect();
        Self {
            layouts: table(include_str!("../data/layouts.json"), layout),
            constants: table(include_str!("../data/constants.json"), hexadecimal),
            enums: table(include_str!("../data/enums.json"), |value| {
                value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_i64().unwrap())).collect()
            }),
            functions: table(include_str!("../data/functions.json"), prototype),
            callbacks: table(include_str!("../data/callbacks.json"), prototype),
            exports: table(include_str!("../data/exports.json"), strings),
        }
    }
}
