//! JSON objects as readers look at them: a member that is wrong is named with its path, what was found and what
//! was expected.

use serde_json::{Map, Value};

use super::{
    errors::{Refusal, shorten},
    json,
};

/// Reads a body; an empty one counts as `{}`.
pub(super) fn parse_body(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|reason| {
        let at = reason.valid_up_to();
        Refusal::invalid(format!("The body is not UTF-8 at byte {at}; expected JSON in UTF-8."))
    })?;
    if text.is_empty() {
        return Ok(Map::new());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match json::parse(text)? {
        Value::Object(object) => Ok(object),
        other => Err(Refusal::invalid(format!("The body is {}; expected a JSON object.", kind(&other)))),
    }
}

/// What a value is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(list) if list.is_empty() => "an empty array",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The whole number that a value is; beyond 2^53 a fraction's digits say no more which one.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let of_fraction = |number: &f64| number.fract() == 0.0 && (0.0..=EXACT).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(of_fraction).map(|number| number as u64))
}

/// An object inside a body, and where.
pub(super) struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn root(map: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), map }
    }

    pub(super) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// The path of member `name`: `customPrompt.mediaInfo.uri`.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The object itself, in a sentence.
    pub(super) fn shown(&self) -> String {
        if self.path.is_empty() { "The body".to_owned() } else { format!("'{}'", self.path) }
    }

    /// Member `name`; `null` counts as absent, as Graph's clients mean it.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Refuses member `name`.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> Refusal {
        let found = match self.map.get(name) {
            None => "missing".to_owned(),
            Some(Value::Number(number)) => shorten(&number.to_string()),
            Some(Value::Bool(boolean)) => boolean.to_string(),
            Some(Value::String(text)) => format!("'{}'", shorten(text)),
            Some(other) => kind(other).to_owned(),
        };
        Refusal::invalid(format!("'{}' is {found}; expected {expected}.", self.path(name)))
    }

    /// Refuses member `name` without showing what was found, which may be long or secret.
    fn wrong_kind(&self, name: &str, expected: &str) -> Refusal {
        let found = self.map.get(name).map_or("missing", kind);
        Refusal::invalid(format!("'{}' is {found}; expected {expected}.", self.path(name)))
    }

    /// Refuses the absence of member `name`.
    pub(super) fn missing(&self, name: &str, expected: &str) -> Refusal {
        Refusal::invalid(format!("'{}' is missing; expected {expected}.", self.path(name)))
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { path: self.path(name), map })),
            Some(_) => Err(self.wrong_kind(name, "an object")),
        }
    }

    /// A list of at most `most` objects; an absent one is empty.
    pub(super) fn objects(&self, name: &str, most: usize) -> Result<Vec<Self>, Refusal> {
        self.elements(name, most, "an object", |path, value| match value {
            Value::Object(map) => Some(Self { path: path.to_owned(), map }),
            _ => None,
        })
    }

    /// A list of at most `most` texts, each with its path; an absent one is empty.
    pub(super) fn texts(&self, name: &str, most: usize) -> Result<Vec<(String, &'a str)>, Refusal> {
        self.elements(name, most, "a string", |path, value| Some((path.to_owned(), value.as_str()?)))
    }

    /// A list of at most `most` elements, each of which `read` makes something of, given its path.
    fn elements<T>(
        &self,
        name: &str,
        most: usize,
        expected: &str,
        read: impl Fn(&str, &'a Value) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        let list = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(self.wrong_kind(name, "an array")),
        };
        if list.len() > most {
            let (path, found) = (self.path(name), list.len());
            return Err(Refusal::invalid(format!("'{path}' has {found} elements; expected at most {most}.")));
        }
        let elements = list.iter().enumerate().map(|(index, element)| {
            let path = format!("{}[{index}]", self.path(name));
            read(&path, element).ok_or_else(|| {
                Refusal::invalid(format!("'{path}' is {}; expected {expected}.", kind(element)))
            })
        });
        elements.collect()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(boolean)) => Ok(Some(*boolean)),
            Some(_) => Err(self.wrong_kind(name, "true or false")),
        }
    }

    /// A text of at most `longest` characters.
    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Option<&'a str>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let length = text.chars().count();
                if length > longest {
                    return Err(Refusal::invalid(format!(
                        "'{}' has {length} characters; expected at most {longest}.",
                        self.path(name)
                    )));
                }
                Ok(Some(text))
            }
            Some(_) => Err(self.wrong_kind(name, "a string")),
        }
    }

    /// A text that must be there and not be empty: `expected` says what it is.
    pub(super) fn required_text(
        &self,
        name: &str,
        longest: usize,
        expected: &str,
    ) -> Result<&'a str, Refusal> {
        match self.text(name, longest)? {
            None => Err(self.missing(name, expected)),
            Some("") => {
                Err(Refusal::invalid(format!("'{}' is empty; expected {expected}.", self.path(name))))
            }
            Some(text) => Ok(text),
        }
    }

    /// A whole number from `least` to `most`, also one that is written as `5.0`: JSON Schema knows no difference, and
    /// languages with one kind of number write it so.
    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match whole(value).filter(|number| (least..=most).contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(name, &format!("a whole number from {least} to {most}"))),
            },
        }
    }

    /// One of some words, in any letter case.
    pub(super) fn word<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let found = value.as_str().and_then(|text| {
            choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, choice)| *choice)
        });
        found.map(Some).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("'{word}'")).collect();
            self.wrong(name, &words.join(" or "))
        })
    }

    /// Checks `@odata.type`, if it is there, against the names without `#microsoft.graph.`; clients compare them
    /// without regard to letter case, and so do we.
    pub(super) fn odata_type(&self, names: &[&str]) -> Result<(), Refusal> {
        let Some(value) = self.value("@odata.type") else { return Ok(()) };
        let known = value.as_str().is_some_and(|text| {
            let bare = text.strip_prefix('#').unwrap_or(text).to_ascii_lowercase();
            let bare = bare.strip_prefix("microsoft.graph.").unwrap_or(&bare);
            names.iter().any(|name| name.eq_ignore_ascii_case(bare))
        });
        if known {
            Ok(())
        } else {
            Err(self.wrong("@odata.type", &format!("'#microsoft.graph.{}'", names[0])))
        }
    }
}
