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
    /// `$filter`: all of these hold.
    pub(crate) filter: Vec<Condition>,
    /// `$count=true`.
    pub(crate) count: bool,
    /// The path ends in `/$count`: how many there are is all that is asked.
    pub(crate) only_count: bool,
    /// The options besides `$skip` as they came, for `@odata.nextLink`.
    rest: String,
}

/// What `$filter` says about one member of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// `eq`, and not `ne`.
    equal: bool,
    member: Member,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Status(Status),
    /// `null` is an operation without one.
    ClientContext(Option<String>),
}

impl Condition {
    /// Whether an operation with this status and context fulfils it.
    pub(crate) fn holds(&self, status: Status, client_context: Option<&str>) -> bool {
        self.equal
            == match &self.member {
                Member::Status(wanted) => *wanted == status,
                Member::ClientContext(wanted) => wanted.as_deref() == client_context,
            }
    }
}

impl Query {
    /// Reads the query of a path that ends in `/$count`: only `$filter` changes how many there are (OData 4.01, part 2,
    /// section 4.8).
    ///
    /// # Errors
    ///
    /// As [`Query::read`].
    pub fn read_count(raw: &str) -> Result<Self, Refusal> {
        let Self { filter, .. } = Self::read(raw)?;
        Ok(Self { filter, only_count: true, ..Self::default() })
    }

    /// Itself, for what is not filtered.
    ///
    /// # Errors
    ///
    /// 400 8523 if there is a filter, which would be passed over.
    pub fn without_filter(self) -> Result<Self, Refusal> {
        if self.filter.is_empty() {
            return Ok(self);
        }
        Err(Refusal::invalid(
            "$filter is not supported here; expected it with the operations of a call only.",
        ))
    }

    /// Reads what stands behind the `?` of a request target; empty if there is none.
    ///
    /// # Errors
    ///
    /// 400 8523 for an option that is unknown or malformed.
    pub fn read(raw: &str) -> Result<Self, Refusal> {
        if raw.len() > MAX_QUERY {
            let found = raw.len();
            return Err(Refusal::invalid(format!(
                "The query has {found} bytes; expected at most {MAX_QUERY}."
            )));
        }
        let mut query = Self::default();
        let mut rest = form_urlencoded::Serializer::new(String::new());
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            // OData 4.01 allows the options without their dollar sign and in any letter case.
            let option = name.strip_prefix('$').unwrap_or(&name).to_ascii_lowercase();
            if seen.contains(&option) {
                return Err(Refusal::invalid(format!(
                    "Query option '${option}' is there twice; expected it once."
                )));
            }
            match option.as_str() {
                "select" => query.select = read_select(&value)?,
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
            seen.push(option);
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

    /// `status eq 'completed'`, `clientContext ne 'x'`, joined by `and`, with or without parentheses. Names and operators
    /// are compared without regard to letter case, as OData 4.01 has it for operators.
    fn read_filter(&mut self, text: &str) -> Result<(), Refusal> {
        let wrong = || {
            Refusal::invalid(format!(
                "$filter '{}' is not understood; expected status or clientContext, eq or ne, and a text in single \
                 quotes, perhaps several of these joined by and.",
                shorten(text)
            ))
        };
        let tokens = tokens(text).ok_or_else(wrong)?;
        let mut tokens = tokens.iter().peekable();
        loop {
            let (Some(Token::Word(name)), Some(Token::Word(operator)), Some(value)) =
                (tokens.next(), tokens.next(), tokens.next())
            else {
                return Err(wrong());
            };
            let equal = match operator.as_str() {
                "eq" => true,
                "ne" => false,
                _ => return Err(wrong()),
            };
            let member = match (name.as_str(), value) {
                ("status", Token::Text(value)) => Member::Status(status_of(value).ok_or_else(|| {
                    Refusal::invalid(format!(
                        "$filter: '{}' is no status; expected notStarted, running, completed or failed.",
                        shorten(value)
                    ))
                })?),
                ("clientcontext", Token::Text(value)) => Member::ClientContext(Some(value.clone())),
                ("clientcontext", Token::Word(word)) if word == "null" => Member::ClientContext(None),
                _ => return Err(wrong()),
            };
            self.filter.push(Condition { equal, member });
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
    /// In lower case.
    Word(String),
    /// As it is.
    Text(String),
}

/// Splits a filter; parentheses only group and are left out. `None` if a text or a parenthesis does not end.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    let mut open = 0_usize;
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => {}
            '(' => open += 1,
            ')' => open = open.checked_sub(1)?,
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
                let mut word = String::from(first.to_ascii_lowercase());
                while let Some(next) = rest.next_if(|c| !matches!(c, ' ' | '\t' | '(' | ')' | '\'')) {
                    word.push(next.to_ascii_lowercase());
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    (open == 0).then_some(tokens)
}

/// The members to show; `None`, which is all of them, if none is named.
fn read_select(value: &str) -> Result<Option<Vec<String>>, Refusal> {
    let names: Vec<_> =
        value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() > MAX_SELECT {
        let found = names.len();
        return Err(Refusal::invalid(format!(
            "$select names {found} members; expected at most {MAX_SELECT}."
        )));
    }
    Ok((!names.is_empty()).then_some(names))
}

fn read_number(option: &str, value: &str) -> Result<usize, Refusal> {
    value.trim().parse().map_err(|_| {
        Refusal::invalid(format!("{option} is '{}'; expected a whole number from 0 on.", shorten(value)))
    })
}

fn read_boolean(value: &str) -> Result<bool, Refusal> {
    let value = value.trim();
    // OData 4.01 writes them in any letter case.
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::invalid(format!("$count is '{}'; expected true or false.", shorten(value)))),
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
        let equal = |member| Condition { equal: true, member };
        let wanted = [Member::Status(Status::Completed), Member::ClientContext(Some("it's".to_owned()))];
        assert_eq!(query.filter, wanted.map(equal));
    }

    #[test]
    fn a_filter_lets_through_what_fulfils_all_of_it() {
        let operations = [
            (Status::Running, Some("a")),
            (Status::Completed, Some("a")),
            (Status::Completed, Some("A")),
            (Status::Failed, None),
        ];
        for (filter, through) in [
            ("status eq 'completed'", &[1, 2][..]),
            ("STATUS EQ 'Completed' AND clientcontext Eq 'A'", &[2]),
            ("status ne 'completed'", &[0, 3]),
            ("clientContext ne 'a'", &[2, 3]),
            ("clientContext eq null", &[3]),
            ("clientContext ne null and (status ne 'running')", &[1, 2]),
            ("status eq 'running' and status eq 'completed'", &[]),
            ("clientContext eq 'and'", &[]),
        ] {
            let query = Query::read(&format!("$filter={filter}")).unwrap();
            let found: Vec<_> = (0..operations.len())
                .filter(|&index| {
                    let (status, context) = operations[index];
                    query.filter.iter().all(|condition| condition.holds(status, context))
                })
                .collect();
            assert_eq!(found, through, "{filter}");
        }
    }

    #[test]
    fn a_count_passes_over_what_does_not_change_it() {
        let query =
            Query::read_count("$filter=status eq 'failed'&$top=1&$skip=2&$select=id&$count=true").unwrap();
        assert!(query.only_count && query.filter.len() == 1);
        assert_eq!(Query { filter: vec![], only_count: false, ..query }, Query::default());
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
            ("$filter=status eq 'running' or status eq 'failed'", "$filter"),
            ("$filter=status eq null", "$filter"),
            ("$filter=(status eq 'running'", "$filter"),
            ("$filter=status eq 'running')", "$filter"),
            ("$filter=state eq 'running'", "$filter"),
            ("$top=1&$top=2", "$top"),
            ("$skip=1&SKIP=2", "$skip"),
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
