//! Functions and callbacks.

use crate::data::{Data, Prototype};
use crate::extra;
use crate::source::{Function, Source};
use crate::types::rust;

fn prototype((_, _, returns, parameters): &extra::Prototype) -> Prototype {
    Prototype {
        returns: (*returns).to_owned(),
        parameters: parameters.iter().map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned())).collect(),
        variadic: false,
    }
}

fn compare(name: &str, declared: &Function, expected: &Prototype) {
    let parameters: Vec<_> = expected.parameters.iter().map(|(name, ty)| (name.clone(), rust(ty))).collect();
    assert_eq!(declared.parameters, parameters, "{name}");
    assert_eq!(declared.variadic, expected.variadic, "{name}");
    let returns = match name {
        // It does not return; C has no type that says so.
        "KeBugCheckEx" => "!".to_owned(),
        // BOOLEAN in canonical form.
        _ if expected.returns == "unsigned char" => "BOOLEAN".to_owned(),
        _ => rust(&expected.returns),
    };
    assert_eq!(declared.returns, returns, "{name}");
}

#[test]
fn functions_have_the_wdks_prototypes() {
    let (source, data) = (Source::load(), Data::load());
    for (name, declared) in &source.functions {
        let extra = extra::FUNCTIONS.iter().find(|(extra, ..)| extra == name).map(prototype);
        let expected = extra.as_ref().or_else(|| data.functions.get(name));
        compare(name, declared, expected.unwrap_or_else(|| panic!("{name} is in no table")));
    }
}

#[test]
fn functions_are_exported_by_their_modules() {
    let (source, data) = (Source::load(), Data::load());
    for (name, declared) in &source.functions {
        let younger =
            extra::EXPORTS.iter().any(|(module, extra, _)| *module == declared.module && extra == name);
        assert!(younger || data.exports[&declared.module].contains(name), "{name} of {}", declared.module);
    }
}

#[test]
fn callbacks_have_the_wdks_prototypes() {
    let (source, data) = (Source::load(), Data::load());
    for (name, declared) in &source.callbacks {
        let extra = extra::CALLBACKS.iter().find(|(extra, ..)| extra == name).map(prototype);
        let expected = extra.as_ref().or_else(|| data.callbacks.get(name));
        compare(name, declared, expected.unwrap_or_else(|| panic!("{name} is in no table")));
    }
}

#[test]
fn inline_functions_are_listed() {
    assert_eq!(Source::load().helpers, extra::HELPERS);
}

#[test]
fn extra_functions_are_needed() {
    let (source, data) = (Source::load(), Data::load());
    for (name, page, ..) in extra::FUNCTIONS {
        assert!(source.functions.contains_key(*name) && !data.functions.contains_key(*name), "{name} {page}");
    }
    for (module, name, since) in extra::EXPORTS {
        assert!(!data.exports[*module].iter().any(|export| export == name), "{name} {since}");
    }
    for (name, page, ..) in extra::CALLBACKS {
        assert!(source.callbacks.contains_key(*name) && !data.callbacks.contains_key(*name), "{name} {page}");
    }
}
