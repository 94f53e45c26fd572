//! One transaction on the kernel's tables.

use std::net::SocketAddr;

use super::constants as nf;
use super::encode;
use super::rule::Rule;
use super::table::{Chain, Element, Family, KeyType, Set, Table};
use crate::netlink::message::Message;
use crate::netlink::socket::Socket;
use crate::netlink::{Error, Failure};

/// Elements go to the kernel in pieces of this size: a list of them is an attribute, and those end at 64 KiB.
const PIECE: usize = 256;

/// Changes that happen together.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<Message>,
    /// What each message does, for errors.
    names: Vec<(&'static str, String)>,
    maps: u32,
    invalid: Option<Error>,
}

impl Batch {
    /// No change yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the table with all it has in the place of the one of its name, if there is one.
    #[must_use]
    pub fn replace_table(self, table: &Table) -> Self {
        let mut batch = self.remove_table(table.family, &table.name);
        batch.new_table(table.family, &table.name);
        for chain in &table.chains {
            batch.new_chain(table, chain);
        }
        for set in &table.sets {
            batch.new_set(table.family, &table.name, set);
            batch.elements(true, table.family, &table.name, &set.name, &set.elements);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                batch.new_rule(table.family, &table.name, &chain.name, rule);
            }
        }
        batch
    }

    /// Removes the table with all it has, if there is one.
    #[must_use]
    pub fn remove_table(mut self, family: Family, name: &str) -> Self {
        // Old kernels cannot delete "if there is one": it is made first.
        self.new_table(family, name);
        self.push(
            "delete table",
            format!("{family} {name}"),
            nf::DELTABLE,
            0,
            family,
            |m| {
                m.attr_str(nf::TABLE_NAME, name);
            },
        );
        self
    }

    /// Appends a rule to a chain.
    #[must_use]
    pub fn add_rule(mut self, family: Family, table: &str, chain: &str, rule: &Rule) -> Self {
        self.new_rule(family, table, chain, rule);
        self
    }

    /// Adds elements to a set; one it has already is fine.
    #[must_use]
    pub fn add_elements(mut self, family: Family, table: &str, set: &str, all: &[Element]) -> Self {
        self.elements(true, family, table, set, all);
        self
    }

    /// Removes elements from a set; all of them must be there.
    #[must_use]
    pub fn delete_elements(
        mut self,
        family: Family,
        table: &str,
        set: &str,
        all: &[Element],
    ) -> Self {
        self.elements(false, family, table, set, all);
        self
    }

    pub(super) fn send(self, socket: &mut Socket) -> Result<(), Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        if self.messages.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(self.messages.len() + 2);
        all.push(marker(nf::BATCH_BEGIN));
        all.extend(self.messages);
        all.push(marker(nf::BATCH_END));
        socket.transaction(all).map_err(|(place, failure)| {
            // The first message is the marker: what fails there is the transaction as a whole.
            let name = place.checked_sub(1).and_then(|place| self.names.get(place));
            match name {
                Some((operation, object)) => failure.during(operation, object),
                None => {
                    let objects: Vec<_> =
                        self.names.last().map(|n| n.1.clone()).into_iter().collect();
                    failure.during("commit packet filter rules up to", objects.join(" "))
                }
            }
        })
    }

    fn new_table(&mut self, family: Family, name: &str) {
        let object = format!("{family} {name}");
        let how = libc::NLM_F_CREATE;
        self.push("add table", object, nf::NEWTABLE, how, family, |m| {
            m.attr_str(nf::TABLE_NAME, name);
        });
    }

    fn new_chain(&mut self, table: &Table, chain: &Chain) {
        let object = format!("{} {} {}", table.family, table.name, chain.name);
        let how = libc::NLM_F_CREATE;
        self.push("add chain", object, nf::NEWCHAIN, how, table.family, |m| {
            m.attr_str(nf::CHAIN_TABLE, &table.name);
            chain_attributes(m, chain);
        });
    }

    fn new_set(&mut self, family: Family, table: &str, set: &Set) {
        let object = format!("{family} {table} {}", set.name);
        let id = self.next_map();
        let how = libc::NLM_F_CREATE;
        self.push("add set", object, nf::NEWSET, how, family, |m| {
            m.attr_str(nf::SET_TABLE, table);
            m.attr_str(nf::SET_NAME, &set.name);
            m.attr_be32(nf::SET_FLAGS, set.flags());
            m.attr_be32(nf::SET_KEY_TYPE, set.key_number());
            m.attr_be32(nf::SET_KEY_LEN, set.key_length() as u32);
            m.attr_be32(nf::SET_ID, id);
            if set.verdicts {
                m.attr_be32(nf::SET_DATA_TYPE, nf::TYPE_VERDICT);
                m.attr_be32(nf::SET_DATA_LEN, 0);
            }
        });
    }

    fn elements(&mut self, add: bool, family: Family, table: &str, set: &str, all: &[Element]) {
        let (operation, kind, how) = if add {
            ("add elements to set", nf::NEWSETELEM, libc::NLM_F_CREATE)
        } else {
            ("delete elements of set", nf::DELSETELEM, 0)
        };
        for piece in all.chunks(PIECE) {
            let object = format!("{family} {table} {set}");
            self.push(operation, object, kind, how, family, |m| {
                m.attr_str(nf::ELEMENTS_TABLE, table);
                m.attr_str(nf::ELEMENTS_SET, set);
                m.nest(nf::ELEMENTS_LIST, |m| {
                    for element in piece {
                        m.nest(nf::LIST_ELEM, |m| {
                            m.nest(nf::ELEMENT_KEY, |m| {
                                m.attr(nf::DATA_VALUE, &element.octets())
                            });
                            if let Some(verdict) = element.verdict.as_ref().filter(|_| add) {
                                m.nest(nf::ELEMENT_DATA, |m| encode::verdict(m, verdict));
                            }
                        });
                    }
                });
            });
        }
    }

    fn new_rule(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) {
        let object = format!("{family} {table} {chain}: {rule}");
        if let Err(detail) = encode::check(rule) {
            let failure = Failure::new(nix::errno::Errno::EINVAL, detail);
            let error = failure.during("add rule", &object);
            self.invalid.get_or_insert(error);
            return;
        }
        let how = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let mut message = message(nf::NEWRULE, how, family);
        message.attr_str(nf::RULE_TABLE, table);
        message.attr_str(nf::RULE_CHAIN, chain);
        encode::rule(&mut message, family, rule, &mut |to| {
            Some(self.spread_map(family, table, to))
        });
        self.messages.push(message);
        self.names.push(("add rule", object));
    }

    /// An anonymous map from 0.. to address and port; it belongs to the rule that follows.
    fn spread_map(&mut self, family: Family, table: &str, to: &[SocketAddr]) -> u32 {
        let id = self.next_map();
        let object = format!("{family} {table} of {} destinations", to.len());
        let address = if to.iter().all(SocketAddr::is_ipv4) {
            KeyType::Ipv4
        } else {
            KeyType::Ipv6
        };
        let how = libc::NLM_F_CREATE;
        self.push("add map", object.clone(), nf::NEWSET, how, family, |m| {
            m.attr_str(nf::SET_TABLE, table);
            m.attr_str(nf::SET_NAME, encode::ANONYMOUS_MAP);
            m.attr_be32(
                nf::SET_FLAGS,
                nf::SET_ANONYMOUS | nf::SET_CONSTANT | nf::SET_MAP,
            );
            m.attr_be32(nf::SET_KEY_TYPE, KeyType::Mark.number());
            m.attr_be32(nf::SET_KEY_LEN, 4);
            m.attr_be32(
                nf::SET_DATA_TYPE,
                address.number() << 6 | KeyType::Port.number(),
            );
            m.attr_be32(nf::SET_DATA_LEN, address.length() as u32 + 4);
            m.attr_be32(nf::SET_ID, id);
        });
        let numbered: Vec<_> = (0u32..).zip(to).collect();
        for piece in numbered.chunks(PIECE) {
            let operation = "add elements to map";
            self.push(
                operation,
                object.clone(),
                nf::NEWSETELEM,
                how,
                family,
                |m| {
                    m.attr_str(nf::ELEMENTS_TABLE, table);
                    m.attr_str(nf::ELEMENTS_SET, encode::ANONYMOUS_MAP);
                    m.attr_be32(nf::ELEMENTS_SET_ID, id);
                    m.nest(nf::ELEMENTS_LIST, |m| {
                        for (number, to) in piece {
                            m.nest(nf::LIST_ELEM, |m| destination(m, *number, **to));
                        }
                    });
                },
            );
        }
        id
    }

    fn next_map(&mut self) -> u32 {
        self.maps += 1;
        self.maps
    }

    fn push(
        &mut self,
        operation: &'static str,
        object: String,
        kind: u16,
        how: i32,
        family: Family,
        fill: impl FnOnce(&mut Message),
    ) {
        let mut message = message(kind, how, family);
        fill(&mut message);
        self.messages.push(message);
        self.names.push((operation, object));
    }
}

pub(super) fn message(kind: u16, how: i32, family: Family) -> Message {
    Message::new(nf::SUBSYSTEM << 8 | kind, how).fixed(&[family.number(), 0, 0, 0])
}

pub(super) fn chain_attributes(m: &mut Message, chain: &Chain) {
    m.attr_str(nf::CHAIN_NAME, &chain.name);
    if let Some(base) = &chain.base {
        m.nest(nf::CHAIN_HOOK, |m| {
            m.attr_be32(nf::HOOK_NUMBER, base.hook.number());
            m.attr_be32(nf::HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        m.attr_str(nf::CHAIN_TYPE, base.kind.word());
        m.attr_be32(nf::CHAIN_POLICY, u32::from(!base.drop));
    }
}

fn destination(m: &mut Message, number: u32, to: SocketAddr) {
    let mut octets = encode::octets(to.ip());
    octets.extend(to.port().to_be_bytes());
    octets.extend([0; 2]);
    m.nest(nf::ELEMENT_KEY, |m| {
        m.attr(nf::DATA_VALUE, &number.to_ne_bytes())
    });
    m.nest(nf::ELEMENT_DATA, |m| m.attr(nf::DATA_VALUE, &octets));
}

/// The begin or the end of a transaction: it names the subsystem, in network order.
fn marker(kind: u16) -> Message {
    let [high, low] = nf::SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0).fixed(&[0, 0, high, low])
}
