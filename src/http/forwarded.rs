//! What proxies say about a client: `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! Each proxy adds what it saw at the end. So a list is read from its end: the last entry is by the peer, the one before it by
//! the proxy that the last one names, and so on for as long as those are trusted. The first address that is not a trusted
//! proxy's is the client's; what stands before it is hearsay.
//!
//! Only one form is read. The older one, if there is an `X-Forwarded-For`: the proxies in use write that, and pass a
//! `Forwarded` on that a client has made up. A proxy that writes `Forwarded` has to take the others away.

use std::net::IpAddr;

use super::request::{Fields, Known};
use super::scan::is_token_byte;
use super::target::is_authority;
use super::trust::Trusted;

/// Elements of one `Forwarded` line that are looked at: the last ones.
pub const HOPS_MAX: usize = 32;

/// What is known of a client, beyond the proxy that it came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client<'b> {
    /// Its address, or that of the farthest proxy that is known; nothing where the peer named none.
    pub addr: Option<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
    /// Whether it speaks to the outermost proxy over TLS.
    pub https: Option<bool>,
    /// The authority that it asked for.
    pub host: Option<&'b [u8]>,
}

/// What the fields of a request from a trusted peer say.
pub fn client<'b>(fields: &Fields<'b>, trusted: &Trusted) -> Client<'b> {
    match fields.has(Known::Forwarded) && !fields.has(Known::XForwardedFor) {
        true => by_forwarded(fields, trusted),
        false => by_x_forwarded(fields, trusted),
    }
}

impl Client<'_> {
    /// The port that the client connected to, as far as it is known: that of the authority, or of the scheme. `host` is the
    /// request's own, for where no proxy names one.
    pub fn server_port(&self, host: &[u8]) -> Option<u16> {
        let named = self.host.unwrap_or(host);
        let after_literal = named.rsplit(|&byte| byte == b']').next().unwrap_or(named);
        let digits = after_literal.iter().position(|&byte| byte == b':').map(|colon| &after_literal[colon + 1..]);
        let port = digits.and_then(port);
        match (self.https, self.host) {
            (None, None) => None,
            (None, Some(_)) => port,
            (Some(https), _) => port.or(Some(if https { 443 } else { 80 })),
        }
    }

    /// Takes in who was seen by somebody trusted; whether that one is trusted, too.
    fn saw(&mut self, node: Option<Node>, trusted: &Trusted) -> bool {
        let Some(Node { addr, port }) = node else { return false };
        (self.addr, self.port) = (Some(addr), port);
        trusted.has(Some(addr))
    }
}

fn by_x_forwarded<'b>(fields: &Fields<'b>, trusted: &Trusted) -> Client<'b> {
    let mut client = Client::default();
    let mut hops = 0;
    for text in from_the_end(fields, Known::XForwardedFor) {
        hops += 1;
        if !client.saw(node(text), trusted) {
            break;
        }
    }
    // Of a list, what belongs to the last address that was believed; a proxy that replaces instead of adding leaves one.
    let believed = |known| from_the_end(fields, known).take(hops.max(1)).last();
    client.https = believed(Known::XForwardedProto).and_then(is_https);
    client.host = believed(Known::XForwardedHost).filter(|host| is_authority(host));
    client
}

/// The members of a list without quotes, over all its lines, the last first. Empty ones are none (RFC 9110 section 5.6.1.2).
fn from_the_end<'b>(fields: &Fields<'b>, known: Known) -> impl Iterator<Item = &'b [u8]> + use<'b> {
    let lines = if fields.has(known) { fields.lines } else { &[] };
    let values = lines.iter().rev().filter(move |line| Known::of(line.name.as_bytes()) == Some(known));
    values
        .flat_map(|line| line.value.rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|text| !text.is_empty())
}

fn by_forwarded<'b>(fields: &Fields<'b>, trusted: &Trusted) -> Client<'b> {
    let mut client = Client::default();
    let lines = fields.lines.iter().rev().filter(|line| Known::of(line.name.as_bytes()) == Some(Known::Forwarded));
    for line in lines {
        // A line that is no list at all says nothing, and nothing before it is believed either.
        let Some(elements) = Elements::read(line.value) else { break };
        for element in elements.last_first() {
            // Of several trusted proxies, the outermost one knows.
            client.https = element.proto.map(|value| value.text).and_then(is_https).or(client.https);
            client.host = element.host.map(|value| value.text).filter(|host| is_authority(host)).or(client.host);
            if !client.saw(element.node.and_then(Value::node), trusted) {
                return client;
            }
        }
        if elements.count > HOPS_MAX {
            break;
        }
    }
    client
}

/// The last elements of a line.
struct Elements<'b> {
    ring: [Element<'b>; HOPS_MAX],
    count: usize,
}

/// A `forwarded-element`: what one proxy says. `by` and what RFC 7239 does not know are left out.
#[derive(Clone, Copy, Default)]
struct Element<'b> {
    node: Option<Value<'b>>,
    proto: Option<Value<'b>>,
    host: Option<Value<'b>>,
    by: bool,
}

/// A token, or what stands between quotes, still with its backslashes.
#[derive(Clone, Copy)]
struct Value<'b> {
    text: &'b [u8],
}

impl<'b> Elements<'b> {
    /// Nothing where the line is not a list of elements (RFC 7239 section 4). Blanks around semicolons are borne with.
    fn read(line: &'b [u8]) -> Option<Elements<'b>> {
        let mut elements = Elements { ring: [Element::default(); HOPS_MAX], count: 0 };
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            match rest.split_first() {
                None => return Some(elements),
                Some((b',', after)) => rest = after,
                Some(_) => {
                    let (element, after) = Element::read(rest)?;
                    elements.ring[elements.count % HOPS_MAX] = element;
                    elements.count += 1;
                    rest = after;
                }
            }
        }
    }

    fn last_first(&self) -> impl Iterator<Item = &Element<'b>> {
        let first = self.count.saturating_sub(HOPS_MAX);
        (first..self.count).rev().map(|index| &self.ring[index % HOPS_MAX])
    }
}

impl<'b> Element<'b> {
    /// `[ pair ] *( ";" [ pair ] )`, and what follows it: a comma, or nothing.
    fn read(line: &'b [u8]) -> Option<(Element<'b>, &'b [u8])> {
        let mut element = Element::default();
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            let name_len = rest.iter().take_while(|&&byte| is_token_byte(byte)).count();
            if name_len > 0 {
                let (name, after) = rest.split_at(name_len);
                let (value, after) = Value::read(after.strip_prefix(b"=")?)?;
                element.take(name, value)?;
                rest = after.trim_ascii_start();
            }
            match rest.split_first() {
                Some((b';', after)) => rest = after,
                None | Some((b',', _)) => return Some((element, rest)),
                Some(_) => return None,
            }
        }
    }

    /// Each parameter may be there once.
    fn take(&mut self, name: &[u8], value: Value<'b>) -> Option<()> {
        let slot = match name {
            name if name.eq_ignore_ascii_case(b"for") => &mut self.node,
            name if name.eq_ignore_ascii_case(b"proto") => &mut self.proto,
            name if name.eq_ignore_ascii_case(b"host") => &mut self.host,
            name if name.eq_ignore_ascii_case(b"by") => return (!std::mem::replace(&mut self.by, true)).then_some(()),
            _ => return Some(()),
        };
        slot.replace(value).is_none().then_some(())
    }
}

impl<'b> Value<'b> {
    /// A token or a quoted string (RFC 9110 sections 5.6.2 and 5.6.4), and what follows it.
    fn read(text: &'b [u8]) -> Option<(Value<'b>, &'b [u8])> {
        let Some(quoted) = text.strip_prefix(b"\"") else {
            let len = text.iter().take_while(|&&byte| is_token_byte(byte)).count();
            let (token, after) = text.split_at(len);
            return (len > 0).then_some((Value { text: token }, after));
        };
        let mut at = 0;
        loop {
            match quoted.get(at)? {
                b'"' => return Some((Value { text: &quoted[..at] }, &quoted[at + 1..])),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }

    /// The address in it. Backslashes are needless there, but allowed.
    fn node(self) -> Option<Node> {
        if !self.text.contains(&b'\\') {
            return node(self.text);
        }
        let mut plain = [0; NODE_BYTES_MAX];
        let mut len = 0;
        let mut bytes = self.text.iter();
        while let Some(&byte) = bytes.next() {
            *plain.get_mut(len)? = if byte == b'\\' { *bytes.next()? } else { byte };
            len += 1;
        }
        node(&plain[..len])
    }
}

/// Who was seen.
struct Node {
    addr: IpAddr,
    port: Option<u16>,
}

/// The longest address, with brackets and port; whatever is longer is none.
const NODE_BYTES_MAX: usize = 64;

/// RFC 7239 section 6, and what is found in `X-Forwarded-For`: an IPv6 address also without brackets. `unknown` and an
/// identifier that somebody made up (`_hidden`) are nobody.
fn node(text: &[u8]) -> Option<Node> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= NODE_BYTES_MAX)?;
    let (addr, port_text) = match text.strip_prefix('[') {
        Some(literal) => {
            let (addr, after) = literal.split_once(']')?;
            let addr = IpAddr::V6(addr.parse().ok()?);
            let port_text = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (addr, port_text)
        }
        None => match (text.parse::<IpAddr>(), text.split_once(':')) {
            (Ok(addr), _) => (addr, None),
            (Err(_), Some((addr, port_text))) => (IpAddr::V4(addr.parse().ok()?), Some(port_text)),
            (Err(_), None) => return None,
        },
    };
    // A port may be made up, too: the address stands.
    Some(Node { addr: addr.to_canonical(), port: port_text.and_then(|text| port(text.as_bytes())) })
}

fn port(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok())?
}

fn is_https(proto: &[u8]) -> Option<bool> {
    match proto {
        proto if proto.eq_ignore_ascii_case(b"https") => Some(true),
        proto if proto.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
