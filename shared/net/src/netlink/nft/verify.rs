//! Whether the kernel holds what a description says.

use super::batch::{chain_attributes, message};
use super::constants as nf;
use super::encode;
use super::rule::Rule;
use super::table::{Chain, Family, Table};
use crate::netlink::Error;
use crate::netlink::message::{Message, attributes, contains, replies, text};
use crate::netlink::socket::Socket;

/// `struct nfgenmsg`, before the attributes of every answer.
const FIXED: usize = 4;

pub(super) fn differences(socket: &mut Socket, table: &Table) -> Result<Vec<String>, Error> {
    let place = format!("table {} {}", table.family, table.name);
    let chains = socket
        .dump(&message(nf::GETCHAIN, 0, table.family))
        .map_err(|failure| failure.during("list chains of", &place))?;
    let chains: Vec<_> = chains
        .iter()
        .filter_map(|body| body.get(FIXED..))
        .filter(|held| word(held, nf::CHAIN_TABLE).as_deref() == Some(&table.name))
        .collect();
    if chains.is_empty() && !table.chains.is_empty() {
        return Ok(vec![format!("{place} is missing")]);
    }
    let mut found = Vec::new();
    for chain in &table.chains {
        let asked = asked(|m| chain_attributes(m, chain));
        let held = chains
            .iter()
            .find(|held| word(held, nf::CHAIN_NAME).as_deref() == Some(&chain.name));
        match held {
            None => {
                found.push(format!("{place}: chain {} is missing", chain.name));
                continue;
            }
            Some(held) if !contains(held, &asked) => {
                found.push(format!("{place}: chain {} has another hook", chain.name));
            }
            Some(_) => {}
        }
        found.extend(rules(socket, table, chain, &place)?);
    }
    Ok(found)
}

fn rules(
    socket: &mut Socket,
    table: &Table,
    chain: &Chain,
    place: &str,
) -> Result<Vec<String>, Error> {
    let mut request = message(nf::GETRULE, 0, table.family);
    request.attr_str(nf::RULE_TABLE, &table.name);
    request.attr_str(nf::RULE_CHAIN, &chain.name);
    let held = socket
        .dump(&request)
        .map_err(|failure| failure.during("list rules of", place))?;
    let held: Vec<_> = held
        .iter()
        .filter_map(|body| body.get(FIXED..))
        .filter(|rule| word(rule, nf::RULE_CHAIN).as_deref() == Some(&chain.name))
        .collect();
    let mut found = Vec::new();
    for (number, rule) in chain.rules.iter().enumerate() {
        let number = number + 1;
        let name = &chain.name;
        match held.get(number - 1) {
            None => found.push(format!(
                "{place}: rule {number} of chain {name} is missing: {rule}"
            )),
            Some(held) if !holds(held, table.family, rule) => found.push(format!(
                "{place}: rule {number} of chain {name} is not: {rule}"
            )),
            Some(_) => {}
        }
    }
    if held.len() > chain.rules.len() {
        found.push(format!(
            "{place}: chain {} has {} rules that do not belong there",
            chain.name,
            held.len() - chain.rules.len()
        ));
    }
    Ok(found)
}

/// The kernel holds all that the rule asks for, and no further expression.
fn holds(held: &[u8], family: Family, rule: &Rule) -> bool {
    let asked = asked(|m| encode::rule(m, family, rule, &mut |_| None));
    let count = |attrs: &[u8]| {
        attributes(attrs)
            .find(|(kind, _)| *kind == nf::RULE_EXPRESSIONS)
            .map_or(0, |(_, list)| attributes(list).count())
    };
    count(held) == count(&asked) && contains(held, &asked)
}

/// The attributes that `fill` writes.
fn asked(fill: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut m = Message::new(0, 0);
    fill(&mut m);
    let bytes = m.finish(0);
    replies(&bytes)
        .next()
        .map_or_else(Vec::new, |message| message.body.to_vec())
}

fn word(held: &[u8], wanted: u16) -> Option<String> {
    attributes(held)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| text(value))
}
