//! CONNACK (section 3.2). MQTT 3 return codes appear as the reason codes that stand for them.

use bytes::BufMut;
use nom::number::complete::u8 as byte;

use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::packet::end;
use crate::props::{Props, PropsContext};
use crate::reason::{ReasonCode, ReasonTable};
use crate::types::{PacketType, Version};
use crate::wire::{self, Body};

/// CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ConnAck<'a> {
    /// Whether the server had a session for this client. MQTT 3.1 has no such flag: not written
    /// there, and decoded as `false`.
    pub session_present: bool,
    /// Success, or why not. In MQTT 3 the one that its return code stands for.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
}

impl<'a> ConnAck<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        if !version.is_v5() && body.len() != 2 {
            return Err(Fault::err(ErrorKind::FixedLength, body));
        }
        let (code_at, flags) = byte(body)?;
        // The whole byte is reserved, and nothing said about it, in MQTT 3.1.
        if flags > 1 && version > Version::V31 {
            return Err(Fault::err(ErrorKind::ConnAckReservedFlags, body));
        }
        let session_present = flags == 1 && version > Version::V31;
        let (rest, code) = byte(code_at)?;
        let (rest, reason, props) = if version.is_v5() {
            let reason = ReasonTable::ConnAck
                .check(code)
                .map_err(|kind| Fault::err(kind, code_at))?;
            let (rest, props) = Props::parse(rest, PropsContext::ConnAck)?;
            (rest, reason, props)
        } else {
            let reason = ReasonCode::from_connect_return_code(code)
                .ok_or_else(|| Fault::err(ErrorKind::ConnAckReasonCode(code), code_at))?;
            (rest, reason, Props::EMPTY)
        };
        if session_present && reason != ReasonCode::Success {
            return Err(Fault::err(ErrorKind::SessionPresentWithError, body));
        }
        end(rest)?;
        Ok((
            rest,
            Self {
                session_present,
                reason,
                props,
            },
        ))
    }
}

impl Body for ConnAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::ConnAck as u8) << 4
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if version.is_v5() {
            Ok(2 + self.props.block_len())
        } else if self.reason.connect_return_code().is_some() {
            Ok(2)
        } else {
            Err(EncodeError::NoReturnCode)
        }
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        // Never with a refusal ([MQTT-3.2.2-6]), never in MQTT 3.1.
        let present =
            self.session_present && self.reason == ReasonCode::Success && version > Version::V31;
        if version.is_v5() {
            dst.put_slice(&[u8::from(present), self.reason as u8]);
            self.props.put(dst);
        } else {
            // `remaining_len` has refused reasons without a code.
            dst.put_slice(&[
                u8::from(present),
                self.reason.connect_return_code().unwrap_or_default(),
            ]);
        }
    }
}

wire::encode_methods!(ConnAck);
