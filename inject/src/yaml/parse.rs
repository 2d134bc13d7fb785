//! Text to [`Node`].

use super::node::Node;
use super::scalar;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::Value;
use std::collections::HashMap;

/// Deeper nesting is no manifest, and recursion has to end somewhere.
const DEPTH_MAX: usize = 100;
/// More nodes, aliases followed, than any manifest has: a few lines can mean billions.
const NODES_MAX: usize = 1_000_000;

/// Why a text is no YAML, and the line (from 1) where that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub what: String,
}

/// The one document of the text; none when there is nothing but comments.
///
/// # Errors
/// Where it is not YAML, or not such as JSON can hold.
pub fn parse(text: &str) -> Result<Option<Node>, Fault> {
    let mut reader =
        Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, line: 1 };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(None),
            Event::DocumentStart(_) => break,
            _ => {}
        }
    }
    let first = reader.next()?;
    let node = reader.node(first, 0)?;
    reader.next()?;
    match reader.next()? {
        Event::StreamEnd => Ok(Some(node)),
        _ => Err(reader.fault("a second document begins without `---`")),
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// Nodes with an anchor, and how many nodes each has.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    line: usize,
}

impl<'t> Reader<'t> {
    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.line, what: what.into() }
    }

    fn next(&mut self) -> Result<Event<'t>, Fault> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => {
                Err(Fault { line: error.marker().line(), what: error.info().to_owned() })
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Node, Fault> {
        let before = self.nodes;
        self.count(1)?;
        if depth > DEPTH_MAX {
            return Err(self.fault(format!("nested deeper than {DEPTH_MAX}")));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let known = self.anchors.get(&id).cloned();
                let (node, size) =
                    known.ok_or_else(|| self.fault("an alias inside its own anchor"))?;
                self.count(size)?;
                (node, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                (Node::Scalar(self.scalar(&text, is_plain, tag.as_deref())?), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            _ => return Err(self.fault("a value is missing")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn count(&mut self, more: usize) -> Result<(), Fault> {
        self.nodes += more;
        let is_much = self.nodes > NODES_MAX;
        if is_much { Err(self.fault(format!("more than {NODES_MAX} nodes"))) } else { Ok(()) }
    }

    fn scalar(&self, text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Value, Fault> {
        match tag.map(|tag| (tag.is_yaml_core_schema(), tag.suffix.as_str())) {
            None | Some((_, "")) if is_plain => Ok(scalar::resolve(text)),
            None | Some((_, "" | "str")) => Ok(Value::String(text.to_owned())),
            Some((true, "int" | "float" | "bool" | "null")) => Ok(scalar::resolve(text)),
            Some((true, "binary")) => self.binary(text),
            Some((_, suffix)) => Err(self.fault(format!("the tag !{suffix} is not known"))),
        }
    }

    /// Base64, which may be broken into lines, of a text.
    fn binary(&self, text: &str) -> Result<Value, Fault> {
        let digits: String = text.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(digits).map_err(|_| self.fault("!!binary takes base64"))?;
        Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn list(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let event = self.next()?;
            let is_merge = matches!(&event,
                Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match event {
                Event::MappingEnd => break,
                event => self.node(event, depth + 1)?,
            };
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            let key = self.key(key)?;
            if fields.iter().any(|(own, _)| *own == key) {
                return Err(self.fault(format!("the key {key} stands twice")));
            }
            fields.push((key, value));
        }
        for value in merged {
            self.merge(&mut fields, value)?;
        }
        Ok(Node::Map(fields))
    }

    /// Keys are texts in JSON; kubectl writes a number or a truth value out.
    fn key(&self, key: Node) -> Result<String, Fault> {
        match key {
            Node::Scalar(Value::String(text)) => Ok(text),
            Node::Scalar(value @ (Value::Bool(_) | Value::Number(_))) => Ok(value.to_string()),
            _ => Err(self.fault("a key must be a text")),
        }
    }

    /// `<<: *other`: what the map does not say itself, the earlier of several first.
    fn merge(&self, fields: &mut Vec<(String, Node)>, value: Node) -> Result<(), Fault> {
        match value {
            Node::Map(others) => {
                for (key, node) in others {
                    if !fields.iter().any(|(own, _)| *own == key) {
                        fields.push((key, node));
                    }
                }
                Ok(())
            }
            Node::List(maps) => maps.into_iter().try_for_each(|map| self.merge(fields, map)),
            Node::Scalar(_) => Err(self.fault("<< takes a map or a list of maps")),
        }
    }
}
