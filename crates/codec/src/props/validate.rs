//! The rules of a property block: known, allowed here, once, in range, and not too many.

use super::{id, property};
use crate::error::{ErrorKind, Fault, Parsed};
use crate::varint;

/// Most user properties of one packet, and most subscription identifiers.
///
/// The specification has no limit. 1,024 is about ten times what brokers accept or clients were
/// seen to send, and keeps walking a block within microseconds; the bytes of a block are bounded by
/// the packet.
pub const MAX_REPEATED_PROPERTIES: usize = 1024;

/// Where a property block stands: which properties are allowed there (table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropsContext {
    /// CONNECT.
    Connect,
    /// The will of a CONNECT.
    Will,
    /// CONNACK.
    ConnAck,
    /// PUBLISH.
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack,
    /// SUBSCRIBE.
    Subscribe,
    /// SUBACK.
    SubAck,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// UNSUBACK.
    UnsubAck,
    /// DISCONNECT.
    Disconnect,
    /// AUTH.
    Auth,
}

/// A set of identifiers; the highest is 0x2A.
const fn set(ids: &[u8]) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < ids.len() {
        bits |= 1 << ids[index];
        index += 1;
    }
    bits
}

const KNOWN: u64 = set(&[id::WILL_DELAY, id::REASON_STRING, id::SUBSCRIPTION_ID])
    | PropsContext::Connect.allowed()
    | PropsContext::ConnAck.allowed()
    | PropsContext::Publish.allowed();

impl PropsContext {
    /// All contexts.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Will,
        Self::ConnAck,
        Self::Publish,
        Self::Ack,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::Disconnect,
        Self::Auth,
    ];

    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => set(&[
                id::SESSION_EXPIRY,
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
                id::REQUEST_PROBLEM_INFORMATION,
                id::REQUEST_RESPONSE_INFORMATION,
                id::RECEIVE_MAXIMUM,
                id::TOPIC_ALIAS_MAXIMUM,
                id::USER_PROPERTY,
                id::MAXIMUM_PACKET_SIZE,
            ]),
            Self::Will => set(&[
                id::PAYLOAD_FORMAT_INDICATOR,
                id::MESSAGE_EXPIRY,
                id::CONTENT_TYPE,
                id::RESPONSE_TOPIC,
                id::CORRELATION_DATA,
                id::WILL_DELAY,
                id::USER_PROPERTY,
            ]),
            Self::ConnAck => set(&[
                id::SESSION_EXPIRY,
                id::ASSIGNED_CLIENT_ID,
                id::SERVER_KEEP_ALIVE,
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
                id::RESPONSE_INFORMATION,
                id::SERVER_REFERENCE,
                id::REASON_STRING,
                id::RECEIVE_MAXIMUM,
                id::TOPIC_ALIAS_MAXIMUM,
                id::MAXIMUM_QOS,
                id::RETAIN_AVAILABLE,
                id::USER_PROPERTY,
                id::MAXIMUM_PACKET_SIZE,
                id::WILDCARD_SUBSCRIPTION_AVAILABLE,
                id::SUBSCRIPTION_IDS_AVAILABLE,
                id::SHARED_SUBSCRIPTION_AVAILABLE,
            ]),
            Self::Publish => set(&[
                id::PAYLOAD_FORMAT_INDICATOR,
                id::MESSAGE_EXPIRY,
                id::CONTENT_TYPE,
                id::RESPONSE_TOPIC,
                id::CORRELATION_DATA,
                id::SUBSCRIPTION_ID,
                id::TOPIC_ALIAS,
                id::USER_PROPERTY,
            ]),
            Self::Subscribe => set(&[id::SUBSCRIPTION_ID, id::USER_PROPERTY]),
            Self::Unsubscribe => set(&[id::USER_PROPERTY]),
            Self::Ack | Self::SubAck | Self::UnsubAck => {
                set(&[id::REASON_STRING, id::USER_PROPERTY])
            }
            Self::Disconnect => set(&[
                id::SESSION_EXPIRY,
                id::SERVER_REFERENCE,
                id::REASON_STRING,
                id::USER_PROPERTY,
            ]),
            Self::Auth => set(&[
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
                id::REASON_STRING,
                id::USER_PROPERTY,
            ]),
        }
    }

    /// Whether the property with this identifier may stand here.
    pub const fn allows(self, id: u8) -> bool {
        id < 64 && self.allowed() >> id & 1 == 1
    }
}

/// Reads the length and checks the properties; yields the block without its length.
pub(super) fn block(input: &[u8], context: PropsContext) -> Parsed<'_, &[u8]> {
    let too_long = ErrorKind::PropertyLengthTooLong;
    let (rest, len) = varint::parse(input, too_long, ErrorKind::PropertyLengthNotMinimal)?;
    let Some((raw, after)) = rest.split_at_checked(len as usize) else {
        return Err(Fault::err(ErrorKind::PropertyLengthExceedsPacket, input));
    };
    match check(raw, context) {
        Ok(()) => Ok((after, raw)),
        Err(fault) => Err(nom::Err::Error(fault.before(after))),
    }
}

/// Checks a block: linear in its bytes.
pub(super) fn check(raw: &[u8], context: PropsContext) -> Result<(), Fault> {
    let allowed = context.allowed();
    let mut seen: u64 = 0;
    let mut user_properties = 0;
    let mut subscription_ids = 0;
    let mut rest = raw;
    while let Some(&id) = rest.first() {
        if id >= 64 || KNOWN >> id & 1 == 0 {
            return Err(Fault::new(property::unknown(rest, id), rest));
        }
        let bit = 1 << id;
        if allowed & bit == 0 {
            let kind = match context {
                PropsContext::Will => ErrorKind::PropertyNotAllowedInWill(id),
                _ => ErrorKind::PropertyNotAllowed(id),
            };
            return Err(Fault::new(kind, rest));
        }
        let repeats = match (id, context) {
            (id::USER_PROPERTY, _) => Some(&mut user_properties),
            // One for each subscription that matched; in SUBSCRIBE only one (3.8.2.1.2).
            (id::SUBSCRIPTION_ID, PropsContext::Publish) => Some(&mut subscription_ids),
            _ => None,
        };
        if let Some(count) = repeats {
            *count += 1;
            if *count > MAX_REPEATED_PROPERTIES {
                return Err(Fault::new(ErrorKind::TooManyProperties, rest));
            }
        } else if seen & bit != 0 {
            return Err(Fault::new(ErrorKind::PropertyTwice(id), rest));
        }
        seen |= bit;
        match property::parse(rest) {
            Ok((after, _)) => rest = after,
            Err(error) => return Err(cut_off(&error, rest)),
        }
    }
    if seen & set(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA])
        == set(&[id::AUTHENTICATION_DATA])
    {
        return Err(Fault::new(ErrorKind::AuthenticationDataWithoutMethod, raw));
    }
    Ok(())
}

/// Within a block, what is cut off is a property.
#[cold]
fn cut_off(error: &nom::Err<Fault>, at: &[u8]) -> Fault {
    match error {
        nom::Err::Error(fault) | nom::Err::Failure(fault) if fault.kind != ErrorKind::Truncated => {
            *fault
        }
        _ => Fault::new(ErrorKind::PropertyTruncated, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_identifier_is_allowed_somewhere_and_only_the_27_are_known() {
        let allowed = PropsContext::ALL
            .iter()
            .fold(0, |bits, context| bits | context.allowed());
        assert_eq!(allowed, KNOWN);
        assert_eq!(KNOWN.count_ones(), 27);
    }

    /// Identifiers allowed in a context, against the columns of table 2-4.
    fn check_count(context: PropsContext, count: u32) {
        assert_eq!(context.allowed().count_ones(), count, "{context:?}");
        assert!(context.allows(id::USER_PROPERTY), "{context:?}");
    }

    #[test]
    fn contexts_allow_as_many_properties_as_the_table_lists() {
        check_count(PropsContext::Connect, 9);
        check_count(PropsContext::Will, 7);
        check_count(PropsContext::ConnAck, 17);
        check_count(PropsContext::Publish, 8);
        check_count(PropsContext::Ack, 2);
        check_count(PropsContext::Subscribe, 2);
        check_count(PropsContext::SubAck, 2);
        check_count(PropsContext::Unsubscribe, 1);
        check_count(PropsContext::UnsubAck, 2);
        check_count(PropsContext::Disconnect, 4);
        check_count(PropsContext::Auth, 4);
    }
}
