//! Policy rules: which traffic is looked up in which routing table.

use std::fmt;

use super::{Handle, Ip};
use crate::netlink::message::{Message, attributes, u32_at};
use crate::netlink::{Error, Mark};

const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TBL: u8 = 1;

/// Traffic with a mark goes by a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRule {
    /// Of this family.
    pub family: Ip,
    /// With this mark; all traffic when there is none.
    pub mark: Option<Mark>,
    /// The table that is asked.
    pub table: u32,
    /// Lower is asked first; the kernel picks one when there is none.
    pub priority: Option<u32>,
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.family == Ip::V6 {
            f.write_str("-6 ")?;
        }
        if let Some(priority) = self.priority {
            write!(f, "priority {priority} ")?;
        }
        if let Some(mark) = self.mark {
            write!(f, "fwmark {mark} ")?;
        }
        write!(f, "lookup {}", self.table)
    }
}

impl Handle {
    /// Adds a rule; one that is there already is fine.
    pub fn add_rule(&mut self, rule: &PolicyRule) -> Result<(), Error> {
        let how = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.rule("add rule", libc::RTM_NEWRULE, how, rule) {
            Err(error) if error.is_exists() => Ok(()),
            done => done,
        }
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, rule: &PolicyRule) -> Result<(), Error> {
        self.rule("delete rule", libc::RTM_DELRULE, 0, rule)
    }

    /// All rules that lead to a table, of both families.
    pub fn policy_rules(&mut self) -> Result<Vec<PolicyRule>, Error> {
        let mut rules = Vec::new();
        for family in Ip::BOTH {
            let mut header = [0; 12];
            header[0] = family.number();
            let request = Message::new(libc::RTM_GETRULE, 0).fixed(&header);
            let found = self
                .socket
                .dump(&request)
                .map_err(|failure| failure.during("list", "policy rules"))?;
            rules.extend(found.iter().filter_map(|body| parse(body, family)));
        }
        Ok(rules)
    }

    fn rule(
        &mut self,
        operation: &'static str,
        kind: u16,
        how: i32,
        rule: &PolicyRule,
    ) -> Result<(), Error> {
        let mut header = [0; 12];
        header[0] = rule.family.number();
        header[7] = FR_ACT_TO_TBL;
        let mut request = Message::new(kind, how).fixed(&header);
        request.attr_u32(FRA_TABLE, rule.table);
        if let Some(mark) = rule.mark {
            request.attr_u32(FRA_FWMARK, mark.value);
            request.attr_u32(FRA_FWMASK, mark.mask);
        }
        if let Some(priority) = rule.priority {
            request.attr_u32(FRA_PRIORITY, priority);
        }
        self.socket
            .request(request)
            .map_err(|failure| failure.during(operation, rule))
    }
}

fn parse(body: &[u8], family: Ip) -> Option<PolicyRule> {
    if *body.get(7)? != FR_ACT_TO_TBL {
        return None;
    }
    let (mut value, mut mask) = (0, 0);
    let mut rule = PolicyRule {
        family,
        mark: None,
        table: u32::from(*body.get(4)?),
        priority: Some(0),
    };
    for (kind, bytes) in attributes(body.get(12..)?) {
        match kind {
            FRA_TABLE => rule.table = u32_at(bytes, 0)?,
            FRA_PRIORITY => rule.priority = u32_at(bytes, 0),
            FRA_FWMARK => value = u32_at(bytes, 0)?,
            FRA_FWMASK => mask = u32_at(bytes, 0)?,
            _ => {}
        }
    }
    rule.mark = (mask != 0).then_some(Mark { value, mask });
    Some(rule)
}
