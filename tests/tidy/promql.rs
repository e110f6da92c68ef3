//! Reads PromQL, as far as to know that a query is well-formed, and which metrics and labels it
//! names. It knows what `docs/observing` uses, and refuses the rest.

use std::collections::BTreeSet;

/// A metric that a query names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// The labels of its matchers, and of what is grouped, joined or left out around it.
    pub(super) labels: BTreeSet<String>,
    /// The values of its matchers, each alternative of a regular expression by itself.
    pub(super) values: BTreeSet<String>,
}

/// The names in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) selectors: Vec<Selector>,
    /// The labels that its result has, if it is an aggregation `by` labels.
    pub(super) by: Option<BTreeSet<String>>,
}

/// The kinds of value of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    Instant,
    Range,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// A number or a duration.
    Number(String),
    Text(String),
    Sign(&'static str),
}

const SIGNS: [&str; 25] = [
    "=~", "!~", "!=", "==", ">=", "<=", "=", ">", "<", "+", "-", "*", "/", "%", "^", "(", ")", "{",
    "}", "[", "]", ",", ":", "@", "$",
];

const BINARY: [&str; 15] = [
    "+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless",
];

const AGGREGATIONS: [&str; 5] = ["sum", "max", "min", "avg", "count"];

/// The functions, and what they take.
const FUNCTIONS: [(&str, &[Kind]); 8] = [
    ("rate", &[Kind::Range]),
    ("increase", &[Kind::Range]),
    ("min_over_time", &[Kind::Range]),
    ("max_over_time", &[Kind::Range]),
    ("histogram_quantile", &[Kind::Scalar, Kind::Instant]),
    ("topk", &[Kind::Scalar, Kind::Instant]),
    ("clamp_min", &[Kind::Instant, Kind::Scalar]),
    ("vector", &[Kind::Scalar]),
];

/// The names in `text`.
///
/// # Errors
///
/// It is not well-formed.
pub(super) fn read(text: &str) -> Result<Query, String> {
    let tokens = tokens(text)?;
    let mut reader = Reader {
        tokens,
        at: 0,
        query: Query::default(),
    };
    reader.expression()?;
    match reader.peek() {
        None => Ok(reader.query),
        Some(token) => Err(format!("{token:?} follows a whole expression")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length;
        if first.is_ascii_alphabetic() || first == '_' {
            length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
            let length = length.unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        } else if first.is_ascii_digit() {
            length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
            let length = length.unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        } else if first == '"' {
            let end = rest[1..].find('"').ok_or("a text without an end")?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            rest = rest[end + 2..].trim_start();
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| format!("unexpected `{first}`"))?;
            tokens.push(Token::Sign(sign));
            rest = rest[sign.len()..].trim_start();
        }
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    query: Query,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| "it ends too early".to_owned())
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = match self.peek() {
            Some(Token::Name(name)) => name == word,
            Some(Token::Sign(sign)) => *sign == word,
            _ => false,
        };
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match self.takes(sign) {
            true => Ok(()),
            false => Err(format!("`{sign}` expected, not {:?}", self.peek())),
        }
    }

    /// Operands with operators between them. Which binds first changes neither names nor kinds.
    fn expression(&mut self) -> Result<Kind, String> {
        let first = self.query.selectors.len();
        let mut kind = self.operand()?;
        while let Some(operator) = BINARY.into_iter().find(|word| self.takes(word)) {
            self.takes("bool");
            let mut joined = BTreeSet::new();
            for word in ["on", "ignoring", "group_left", "group_right"] {
                if self.takes(word) {
                    joined.extend(self.labels()?);
                }
            }
            let by = self.query.by.take();
            let other = self.operand()?;
            if kind == Kind::Range || other == Kind::Range {
                return Err(format!("`{operator}` on a range"));
            }
            if kind == Kind::Scalar {
                kind = other;
            }
            // The labels of a result are those of its left side.
            self.query.by = by.or(self.query.by.take());
            self.add_labels(first, &joined);
        }
        Ok(kind)
    }

    fn operand(&mut self) -> Result<Kind, String> {
        let kind = self.primary()?;
        let kind = match self.takes("[") {
            false => kind,
            true if kind == Kind::Instant => {
                self.duration()?;
                self.expect("]")?;
                Kind::Range
            }
            true => return Err(format!("a range of {kind:?}")),
        };
        if self.takes("offset") {
            self.duration()?;
        }
        Ok(kind)
    }

    /// `5m`, or `$__rate_interval`.
    fn duration(&mut self) -> Result<(), String> {
        if self.takes("$") {
            return match self.next()? {
                Token::Name(name) if name == "__rate_interval" => Ok(()),
                other => Err(format!("{other:?} is not an interval")),
            };
        }
        match self.next()? {
            Token::Number(text) if text.ends_with(['s', 'm', 'h', 'd']) => Ok(()),
            other => Err(format!("{other:?} is not a duration")),
        }
    }

    fn primary(&mut self) -> Result<Kind, String> {
        match self.next()? {
            Token::Sign("(") => {
                let kind = self.expression()?;
                self.expect(")")?;
                Ok(kind)
            }
            Token::Sign("-") => self.primary(),
            Token::Number(text) => match text.parse::<f64>() {
                Ok(_) => Ok(Kind::Scalar),
                Err(_) => Err(format!("`{text}` is not a number")),
            },
            Token::Name(name) if AGGREGATIONS.contains(&&*name) => self.aggregation(),
            Token::Name(name) if self.takes("(") => self.function(&name),
            Token::Name(name) => self.selector(name),
            other => Err(format!("{other:?} does not begin an operand")),
        }
    }

    fn aggregation(&mut self) -> Result<Kind, String> {
        let first = self.query.selectors.len();
        let mut by = self.takes("by").then(|| self.labels()).transpose()?;
        let mut without = self.takes("without").then(|| self.labels()).transpose()?;
        self.expect("(")?;
        let kind = self.expression()?;
        self.expect(")")?;
        if by.is_none() && without.is_none() {
            by = self.takes("by").then(|| self.labels()).transpose()?;
            without = self.takes("without").then(|| self.labels()).transpose()?;
        }
        for labels in [&by, &without].into_iter().flatten() {
            self.add_labels(first, labels);
        }
        self.query.by = match without {
            Some(_) => None,
            None => Some(by.unwrap_or_default()),
        };
        match kind {
            Kind::Instant => Ok(kind),
            other => Err(format!("an aggregation of {other:?}")),
        }
    }

    fn function(&mut self, name: &str) -> Result<Kind, String> {
        let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
        let (_, takes) = known.ok_or_else(|| format!("`{name}` is not a known function"))?;
        for (n, expected) in takes.iter().enumerate() {
            if n > 0 {
                self.expect(",")?;
            }
            let kind = self.expression()?;
            if kind != *expected {
                return Err(format!("`{name}` takes {expected:?}, not {kind:?}"));
            }
        }
        self.expect(")")?;
        if name == "histogram_quantile"
            && let Some(by) = &mut self.query.by
            && !by.remove("le")
        {
            return Err("`histogram_quantile` needs the label `le`".to_owned());
        }
        Ok(Kind::Instant)
    }

    fn selector(&mut self, metric: String) -> Result<Kind, String> {
        let mut selector = Selector {
            metric,
            ..Selector::default()
        };
        if self.takes("{") {
            while !self.takes("}") {
                let Token::Name(label) = self.next()? else {
                    return Err("a matcher begins with a label".to_owned());
                };
                let operator = ["=", "!=", "=~", "!~"].into_iter();
                let mut operator = operator.filter(|operator| self.takes(operator));
                let operator = operator.next().ok_or("a matcher has an operator")?;
                let Token::Text(value) = self.next()? else {
                    return Err("a matcher ends with a text".to_owned());
                };
                match operator.contains('~') {
                    true => selector.values.extend(value.split('|').map(str::to_owned)),
                    false => _ = selector.values.insert(value),
                }
                selector.labels.insert(label);
                if !self.takes(",") {
                    self.expect("}")?;
                    break;
                }
            }
        }
        self.query.selectors.push(selector);
        self.query.by = None;
        Ok(Kind::Instant)
    }

    /// `(state, health)`
    fn labels(&mut self) -> Result<BTreeSet<String>, String> {
        let mut labels = BTreeSet::new();
        self.expect("(")?;
        while !self.takes(")") {
            match self.next()? {
                Token::Name(label) => labels.insert(label),
                other => return Err(format!("{other:?} is not a label")),
            };
            if !self.takes(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(labels)
    }

    /// To each selector from this one on.
    fn add_labels(&mut self, first: usize, labels: &BTreeSet<String>) {
        for selector in &mut self.query.selectors[first..] {
            selector.labels.extend(labels.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Query, read};

    fn named(query: &Query) -> Vec<String> {
        let selectors = query.selectors.iter().map(|one| {
            let labels: Vec<_> = one.labels.iter().map(String::as_str).collect();
            format!("{} {}", one.metric, labels.join(" "))
        });
        selectors.collect()
    }

    #[test]
    fn metrics_are_found_with_the_labels_that_they_must_have() {
        let query = read(
            r#"sum by (a) (rate(x_total{b=~"1|2", c!="3"}[5m])) / on (d) group_left sum by (d) (y) > 0.5"#,
        );
        // Without a list `group_left` is followed by an operand, which this reader refuses.
        assert!(query.is_err());
        let query = read(
            r#"sum by (a) (rate(x_total{b=~"1|2", c!="3"}[$__rate_interval]))
               / on (a) sum without (d) (y offset 5m) > 0.5"#,
        );
        let query = query.expect("it is well-formed");
        assert_eq!(named(&query), ["x_total a b c", "y a d"]);
        let values: Vec<_> = query.selectors[0].values.iter().collect();
        assert_eq!(values, ["1", "2", "3"]);
        assert_eq!(query.by, Some(["a".to_owned()].into()));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for text in [
            "",
            "x y",
            "sum(x",
            "sum by (a) x)",
            "rate(x)",
            "rate(x[5])",
            "sum(x[5m])",
            "x[5m] / y",
            "rat(x[5m])",
            r#"x{a="1}"#,
            r#"x{a "1"}"#,
            "x{a=1}",
            "x >",
            "histogram_quantile(x)",
            "histogram_quantile(0.5, sum by (a) (x))",
            "x ; y",
            "1.2.3",
        ] {
            let query = read(text);
            assert!(query.is_err(), "{text}: {query:?}");
        }
    }
}
