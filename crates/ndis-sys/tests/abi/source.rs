//! What the crate declares, read from its source.

use quote::ToTokens;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Ident, Item, LitInt, LitStr, Token, Visibility};

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) is_union: bool,
    /// Public fields: name and type.
    pub(crate) fields: Vec<(String, String)>,
}

/// A `bits!` word.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) fields: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) module: String,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) returns: String,
    pub(crate) variadic: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Name and type.
    pub(crate) constants: BTreeMap<String, String>,
    /// Aliases: name and type.
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) structs: BTreeMap<String, Struct>,
    pub(crate) words: BTreeMap<String, Word>,
    pub(crate) opaque: Vec<String>,
    /// `imports!`
    pub(crate) functions: BTreeMap<String, Function>,
    /// `callbacks!`
    pub(crate) callbacks: BTreeMap<String, Function>,
    /// Functions with a body.
    pub(crate) helpers: Vec<String>,
}

/// A type or expression as text without superfluous spaces.
fn text(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    text.replace(" ;", ";")
        .replace("* ", "*")
        .replace("[ ", "[")
        .replace(" ]", "]")
        .replace(" < ", "<")
        .replace(" >", ">")
}

fn returns(output: &syn::ReturnType) -> String {
    match output {
        syn::ReturnType::Default => "()".to_owned(),
        syn::ReturnType::Type(_, ty) => text(ty),
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

struct Imports {
    module: String,
    functions: Vec<syn::ForeignItemFn>,
}

impl Parse for Imports {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let module = input.parse::<LitStr>()?.value();
        input.parse::<Token![=>]>()?;
        let mut functions = Vec::new();
        while !input.is_empty() {
            functions.push(input.parse()?);
        }
        Ok(Self { module, functions })
    }
}

struct Callbacks(Vec<(String, syn::TypeBareFn)>);

impl Parse for Callbacks {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut callbacks = Vec::new();
        while !input.is_empty() {
            let item: syn::ItemType = input.parse()?;
            let syn::Type::BareFn(function) = *item.ty else { panic!("{} is no function", item.ident) };
            callbacks.push((item.ident.to_string(), function));
        }
        Ok(Self(callbacks))
    }
}

struct Bits {
    name: String,
    fields: Vec<String>,
}

impl Parse for Bits {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Attribute::parse_outer(input)?;
        input.parse::<Visibility>()?;
        input.parse::<Token![struct]>()?;
        let name = input.parse::<Ident>()?.to_string();
        let word;
        syn::parenthesized!(word in input);
        word.parse::<syn::Type>()?;
        input.parse::<Token![=]>()?;
        syn::punctuated::Punctuated::<LitStr, Token![,]>::parse_separated_nonempty(input)?;
        input.parse::<Token![;]>()?;
        let mut fields = Vec::new();
        while !input.is_empty() {
            Attribute::parse_outer(input)?;
            let getter = input.parse::<Ident>()?.to_string();
            input.parse::<Token![/]>()?;
            let builder = input.parse::<Ident>()?.to_string();
            assert_eq!(builder, format!("with_{getter}"));
            input.parse::<Token![:]>()?;
            input.parse::<LitInt>()?;
            input.parse::<Token![,]>()?;
            input.parse::<LitInt>()?;
            input.parse::<Token![;]>()?;
            fields.push(getter);
        }
        Ok(Self { name, fields })
    }
}

fn opaque(input: ParseStream) -> syn::Result<Vec<String>> {
    let mut names = Vec::new();
    while !input.is_empty() {
        Attribute::parse_outer(input)?;
        names.push(input.parse::<Ident>()?.to_string());
        input.parse::<Token![,]>()?;
    }
    Ok(names)
}

fn public_fields(fields: &syn::FieldsNamed) -> Vec<(String, String)> {
    let public = fields.named.iter().filter(|field| is_public(&field.vis));
    public.map(|field| (field.ident.as_ref().unwrap().to_string(), text(&field.ty))).collect()
}

impl Source {
    /// Reads all of `src/`. Panics at an item that no test would look at.
    pub(crate) fn load() -> Self {
        let mut source = Self::default();
        for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
            // The compiler's own calls: nobody outside sees them.
            if path.ends_with("crt.rs") {
                continue;
            }
            let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
            for item in file.items {
                source.item(item, &path);
            }
        }
        source
    }

    fn item(&mut self, item: Item, path: &Path) {
        match item {
            Item::Const(item) if is_public(&item.vis) => {
                self.constants.insert(item.ident.to_string(), text(&item.ty));
            }
            Item::Type(item) => {
                self.aliases.insert(item.ident.to_string(), text(&item.ty));
            }
            Item::Struct(item) => {
                let syn::Fields::Named(fields) = &item.fields else {
                    panic!("{} has unnamed fields", item.ident)
                };
                let fields = public_fields(fields);
                self.structs.insert(item.ident.to_string(), Struct { is_union: false, fields });
            }
            Item::Union(item) => {
                let fields = public_fields(&item.fields);
                self.structs.insert(item.ident.to_string(), Struct { is_union: true, fields });
            }
            Item::Fn(item) => self.helpers.push(item.sig.ident.to_string()),
            Item::Macro(item) => self.expand(&item.mac, path),
            // Assertions, imports and modules.
            Item::Const(_) | Item::Use(_) | Item::Mod(_) => {}
            other => panic!("{}: {}", path.display(), text(&other)),
        }
    }

    fn expand(&mut self, call: &syn::Macro, path: &Path) {
        let tokens = call.tokens.clone();
        match text(&call.path).as_str() {
            "imports" => {
                let imports: Imports = syn::parse2(tokens).unwrap();
                for function in imports.functions {
                    let parameters = function.sig.inputs.iter().map(|input| match input {
                        syn::FnArg::Typed(input) => (text(&input.pat), text(&input.ty)),
                        syn::FnArg::Receiver(_) => unreachable!(),
                    });
                    let declared = Function {
                        module: imports.module.clone(),
                        parameters: parameters.collect(),
                        returns: returns(&function.sig.output),
                        variadic: function.sig.variadic.is_some(),
                    };
                    self.functions.insert(function.sig.ident.to_string(), declared);
                }
            }
            "callbacks" => {
                let Callbacks(callbacks) = syn::parse2(tokens).unwrap();
                for (name, function) in callbacks {
                    let parameters = function.inputs.iter();
                    let parameters =
                        parameters.map(|input| (text(&input.name.as_ref().unwrap().0), text(&input.ty)));
                    let declared = Function {
                        module: String::new(),
                        parameters: parameters.collect(),
                        returns: returns(&function.output),
                        variadic: false,
                    };
                    self.callbacks.insert(name, declared);
                }
            }
            "bits" => {
                let Bits { name, fields } = syn::parse2(tokens).unwrap();
                self.words.insert(name, Word { fields });
            }
            "opaque" => self.opaque = opaque.parse2(tokens).unwrap(),
            // Definitions, and methods of types that are declared elsewhere.
            "macro_rules" | "zeroed" | "slots" => {}
            other => panic!("{}: {other}!", path.display()),
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
