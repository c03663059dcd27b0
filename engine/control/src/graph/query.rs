//! OData's query options: the raw query of a request goes in, what to leave out of a collection comes out.

use url::form_urlencoded;

use super::{errors::shorten, words::status_of};
use crate::{graph::Refusal, operation::Status};

/// Longest query string read, in bytes: room for every supported option at its longest.
const MAX_QUERY: usize = 4096;
/// Members that `$select` may name.
const MAX_SELECT: usize = 64;
/// Entities on one page if the client does not say; also the most it may ask for.
pub(crate) const PAGE: usize = 1000;

/// The options of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `$select`: members to show.
    pub(crate) select: Option<Vec<String>>,
    /// `$top`: entities on the page.
    pub(crate) top: Option<usize>,
    /// `$skip`: entities before the page.
    pub(crate) skip: usize,
    /// `$filter=status eq '…'`.
    pub(crate) status: Option<Status>,
    /// `$filter=clientContext eq '…'`.
    pub(crate) client_context: Option<String>,
    /// `$count=true`.
    pub(crate) count: bool,
    /// The options besides `$skip` as they came, for `@odata.nextLink`.
    rest: String,
}

impl Query {
    /// Reads what stands behind the `?` of a request target; empty if there is none.
    ///
    /// # Errors
    ///
    /// 400 8523 for an option that is unknown or malformed.
    pub fn read(raw: &str) -> Result<Self, Refusal> {
        if raw.len() > MAX_QUERY {
            return Err(Refusal::invalid(format!("The query is longer than {MAX_QUERY} bytes.")));
        }
        let mut query = Self::default();
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            // OData 4.01 allows the options without their dollar sign and in any letter case.
            let option = name.strip_prefix('$').unwrap_or(&name).to_ascii_lowercase();
            match option.as_str() {
                "select" => query.select = Some(read_select(&value)?),
                "top" => query.top = Some(read_number("$top", &value)?),
                "skip" => query.skip = read_number("$skip", &value)?,
                "filter" => query.read_filter(&value)?,
                "count" => query.count = read_boolean(&value)?,
                _ if name.starts_with('$') => {
                    return Err(Refusal::invalid(format!(
                        "Query option '{}' is not supported; expected $select, $top, $skip, $filter or $count.",
                        shorten(&name)
                    )));
                }
                _ => continue,
            }
            if option != "skip" {
                rest.append_pair(&name, &value);
            }
        }
        query.rest = rest.finish();
        Ok(query)
    }

    /// The range of `total` entities that the page shows, and the query of the next page if there is one.
    pub(crate) fn page(&self, total: usize) -> (std::ops::Range<usize>, Option<String>) {
        let from = self.skip.min(total);
        let to = from.saturating_add(self.top.unwrap_or(PAGE).min(PAGE)).min(total);
        // A client that asks for nothing gets no link to more of it.
        let next = (to < total && to > from).then(|| {
            let join = if self.rest.is_empty() { "" } else { "&" };
            format!("{}{join}%24skip={to}", self.rest)
        });
        (from..to, next)
    }

    /// `status eq 'completed'`, `clientContext eq 'x'`, both joined by `and`, with or without parentheses.
    fn read_filter(&mut self, text: &str) -> Result<(), Refusal> {
        let wrong = || {
            Refusal::invalid(format!(
                "$filter '{}' is not understood; expected status eq '…' or clientContext eq '…', joined by and.",
                shorten(text)
            ))
        };
        let tokens = tokens(text).ok_or_else(wrong)?;
        let mut tokens = tokens.iter().peekable();
        loop {
            let (Some(Token::Word(name)), Some(Token::Word(eq)), Some(Token::Text(value))) =
                (tokens.next(), tokens.next(), tokens.next())
            else {
                return Err(wrong());
            };
            match (name.as_str(), eq.as_str()) {
                ("status", "eq") => {
                    self.status = Some(status_of(value).ok_or_else(|| {
                        Refusal::invalid(format!(
                            "$filter: '{}' is no status; expected notStarted, running, completed or failed.",
                            shorten(value)
                        ))
                    })?);
                }
                ("clientContext", "eq") => self.client_context = Some(value.clone()),
                _ => return Err(wrong()),
            }
            match tokens.next() {
                None => return Ok(()),
                Some(Token::Word(and)) if and == "and" => {}
                Some(_) => return Err(wrong()),
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
}

/// Splits a filter; parentheses only group and are left out. `None` if a text does not end.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' | '(' | ')' => {}
            '\'' => {
                let mut value = String::new();
                loop {
                    match rest.next()? {
                        // OData writes a quote inside a text twice.
                        '\'' if rest.next_if_eq(&'\'').is_some() => value.push('\''),
                        '\'' => break,
                        other => value.push(other),
                    }
                }
                tokens.push(Token::Text(value));
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = rest.next_if(|c| !matches!(c, ' ' | '\t' | '(' | ')' | '\'')) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Some(tokens)
}

fn read_select(value: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<_> =
        value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() > MAX_SELECT {
        return Err(Refusal::invalid(format!("$select names more than {MAX_SELECT} members.")));
    }
    Ok(names)
}

fn read_number(option: &str, value: &str) -> Result<usize, Refusal> {
    value.trim().parse().map_err(|_| {
        Refusal::invalid(format!("{option} is '{}'; expected a whole number from 0 on.", shorten(value)))
    })
}

fn read_boolean(value: &str) -> Result<bool, Refusal> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Refusal::invalid(format!("$count is '{}'; expected true or false.", shorten(other)))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_supported_option_is_read() {
        let query = Query::read(
            "$select=id,status&%24top=2&$skip=4&$count=true\
             &$filter=(status%20eq%20'Completed')%20and%20clientContext%20eq%20'it''s'&api-version=1",
        )
        .unwrap();
        assert_eq!(query.select, Some(vec!["id".to_owned(), "status".to_owned()]));
        assert_eq!((query.top, query.skip, query.count), (Some(2), 4, true));
        assert_eq!(query.status, Some(Status::Completed));
        assert_eq!(query.client_context.as_deref(), Some("it's"));
    }

    #[test]
    fn the_next_page_keeps_the_options_and_moves_on() {
        let query = Query::read("$top=2&$skip=1&$count=true").unwrap();
        let (range, next) = query.page(5);
        assert_eq!(range, 1..3);
        let next = next.unwrap();
        assert_eq!(next, "%24top=2&%24count=true&%24skip=3");
        let (range, next) = Query::read(&next).unwrap().page(5);
        assert_eq!((range, next), (3..5, None));
    }

    #[test]
    fn a_page_of_nothing_leads_nowhere() {
        assert_eq!(Query::read("$top=0").unwrap().page(5), (0..0, None));
        assert_eq!(Query::read("$skip=9").unwrap().page(5), (5..5, None));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (raw, named) in [
            ("$orderby=id", "$orderby"),
            ("$top=-1", "$top"),
            ("$skip=x", "$skip"),
            ("$count=maybe", "$count"),
            ("$filter=status gt 'x'", "$filter"),
            ("$filter=status eq 'done'", "done"),
            ("$filter=status eq 'running", "$filter"),
            ("$filter=", "$filter"),
        ] {
            let refusal = Query::read(raw).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (400, "8523"));
            assert!(refusal.message.contains(named), "{}", refusal.message);
        }
    }

    proptest! {
        #[test]
        fn hostile_queries_are_read_or_refused(raw in ".{0,200}", total in 0_usize..3000) {
            if let Ok(query) = Query::read(&raw) {
                let (range, _) = query.page(total);
                prop_assert!(range.start <= range.end && range.end <= total);
            }
        }
    }
}
