//! DISCONNECT and AUTH (sections 3.14 and 3.15): a reason code and properties, both optional.
//!
//! That a server must not send a Session Expiry Interval ([MQTT-3.14.2-2]) is for the receiver to
//! judge: the codec does not know who sent a packet.

use bytes::BufMut;
use nom::number::complete::u8 as byte;

use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::packet::end;
use crate::props::{Props, PropsContext};
use crate::reason::{ReasonCode, ReasonTable};
use crate::types::{PacketType, Version};
use crate::wire::{self, Body};

/// DISCONNECT. Before MQTT 5 it has no body: `reason` and `props` are not written, and decode as
/// Success and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Disconnect<'a> {
    /// Why the connection ends.
    pub reason: ReasonCode,
    /// Session expiry, server reference, reason string, user properties.
    pub props: Props<'a>,
}

impl Disconnect<'static> {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            props: Props::EMPTY,
        }
    }
}

impl<'a> Disconnect<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        if body.is_empty() {
            return Ok((
                body,
                Self {
                    reason: ReasonCode::Success,
                    props: Props::EMPTY,
                },
            ));
        }
        if !version.is_v5() {
            return Err(Fault::err(ErrorKind::FixedLength, body));
        }
        let (rest, code) = byte(body)?;
        let reason = ReasonTable::Disconnect
            .check(code)
            .map_err(|kind| Fault::err(kind, body))?;
        // Remaining length 1: no properties (3.14.2.2.1).
        let (rest, props) = if rest.is_empty() {
            (rest, Props::EMPTY)
        } else {
            Props::parse(rest, PropsContext::Disconnect)?
        };
        end(rest)?;
        Ok((rest, Self { reason, props }))
    }
}

impl Body for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Disconnect as u8) << 4
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        Ok(match (version.is_v5(), self.props.is_empty()) {
            (false, _) => 0,
            (true, true) if self.reason == ReasonCode::Success => 0,
            (true, true) => 1,
            (true, false) => 1 + self.props.block_len(),
        })
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        if !version.is_v5() {
            return;
        }
        if self.reason != ReasonCode::Success || !self.props.is_empty() {
            dst.put_u8(self.reason as u8);
        }
        if !self.props.is_empty() {
            self.props.put(dst);
        }
    }
}

wire::encode_methods!(Disconnect);

/// AUTH, which exists in MQTT 5 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method (required but in the short form) and data, reason string, user properties.
    pub props: Props<'a>,
}

impl<'a> Auth<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Parsed<'a, Self> {
        // Remaining length 0: Success and no properties (3.15.2.1).
        if body.is_empty() {
            return Ok((
                body,
                Self {
                    reason: ReasonCode::Success,
                    props: Props::EMPTY,
                },
            ));
        }
        let (props_at, code) = byte(body)?;
        let reason = ReasonTable::Auth
            .check(code)
            .map_err(|kind| Fault::err(kind, body))?;
        let (rest, props) = Props::parse(props_at, PropsContext::Auth)?;
        end(rest)?;
        let short = reason == ReasonCode::Success && props.is_empty();
        if !short && props.authentication_method().is_none() {
            return Err(Fault::err(ErrorKind::AuthenticationMethodMissing, props_at));
        }
        Ok((rest, Self { reason, props }))
    }
}

impl Body for Auth<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Auth as u8) << 4
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if !version.is_v5() {
            Err(EncodeError::NotInThisVersion)
        } else if self.reason == ReasonCode::Success && self.props.is_empty() {
            Ok(0)
        } else {
            Ok(1 + self.props.block_len())
        }
    }

    fn put(&self, remaining: u32, _: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        if self.reason != ReasonCode::Success || !self.props.is_empty() {
            dst.put_u8(self.reason as u8);
            self.props.put(dst);
        }
    }
}

wire::encode_methods!(Auth);
