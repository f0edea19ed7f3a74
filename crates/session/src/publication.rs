//! One PUBLISH on its way to many subscribers: encoded once per layout, copied and patched per receiver.
//!
//! Deliberately absent: who receives it, and any per-receiver property; those packets are encoded one by one.

use martlet_codec::PacketId;
use martlet_storage::{Message, MessageHead, MessageId, Timestamp};

use crate::encode::PublishHead;

/// Templates larger than this are not kept between publications.
const TEMPLATE_KEPT_BYTES: usize = 64 * 1024;

/// Reusable buffers of [`Publication`]: packets encoded once per (MQTT 3 or 5) x (with id or without). One per thread.
#[derive(Debug, Default)]
pub struct FanOut {
    templates: [Template; 4],
    scratch: Vec<u8>,
}

/// A PUBLISH as most receivers of one layout get it.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// The packet, without its payload where that is shared. First byte and packet id are patched in the copy.
    pub(crate) bytes: Vec<u8>,
    /// Where the packet id stands; 0 in layouts without one.
    pub(crate) id_at: usize,
    /// Length of the whole packet, payload included.
    pub(crate) packet_len: usize,
    expiry_secs: Option<u32>,
    /// The payload goes by reference.
    pub(crate) shared: bool,
}

/// A PUBLISH on its way to its subscribers; becomes a [`Message`] only when something must outlive the call.
#[derive(Debug)]
pub struct Publication<'a> {
    /// What is known besides the body. Set the identity before the first [`Publication::message`] or offer.
    pub head: MessageHead,
    /// The topic name.
    pub topic: &'a str,
    /// The forwardable property block.
    pub props: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    message: Option<Message>,
    /// Which templates of `fan_out` are of this publication.
    built: [bool; 4],
    /// One receiver is expected: nothing is made for sharing.
    for_one: bool,
    fan_out: &'a mut FanOut,
}

impl<'a> Publication<'a> {
    /// `props`: forwardable block (no Topic Alias, Message Expiry, Subscription Identifier); empty for MQTT 3.
    pub fn new(
        head: MessageHead,
        topic: &'a str,
        props: &'a [u8],
        payload: &'a [u8],
        fan_out: &'a mut FanOut,
    ) -> Self {
        Self {
            head,
            topic,
            props,
            payload,
            message: None,
            built: [false; 4],
            for_one: false,
            fan_out,
        }
    }

    /// A message that is kept already, on its way again.
    pub fn from_message(message: &'a Message, fan_out: &'a mut FanOut) -> Self {
        Self {
            head: message.head(),
            topic: message.topic(),
            props: message.props(),
            payload: message.payload(),
            message: Some(message.clone()),
            built: [false; 4],
            for_one: false,
            fan_out,
        }
    }

    /// Gives it its identity in the store; before the first offer. An owned form made under another
    /// identity is made anew when it is needed.
    pub fn set_id(&mut self, id: MessageId) {
        self.head.id = id;
        self.message.take_if(|message| message.id() != id);
    }

    /// Says that one receiver is expected, so that its packet is written at once and not as a copy of what all get.
    /// Others are served as well, at a little more cost.
    pub fn expect_one(&mut self) {
        self.for_one = true;
    }

    pub(crate) fn is_for_one(&self) -> bool {
        self.for_one
    }

    /// Whether the owned form is there already.
    pub(crate) fn is_owned(&self) -> bool {
        self.message.is_some()
    }

    /// The owned form, made at most once.
    pub fn message(&mut self) -> &Message {
        let Self {
            head,
            topic,
            props,
            payload,
            message,
            fan_out,
            ..
        } = self;
        message
            .get_or_insert_with(|| Message::new(*head, topic, props, payload, &mut fan_out.scratch))
    }

    /// The template of a layout, encoded if need be. `None` where no packet can express it.
    #[inline]
    pub(crate) fn template(
        &mut self,
        v5: bool,
        with_id: bool,
        now: Timestamp,
        share_from: usize,
    ) -> Option<&Template> {
        let expiry_secs = if v5 { self.expiry_secs(now) } else { None };
        let shared = self.payload.len() >= share_from;
        let slot = usize::from(v5) * 2 + usize::from(with_id);
        let template = &self.fan_out.templates[slot];
        // Time passes while a retained message is offered again and again; limits may differ by session.
        if !self.built[slot] || template.expiry_secs != expiry_secs || template.shared != shared {
            self.build(slot, v5, with_id, expiry_secs, shared)?;
        }
        Some(&self.fan_out.templates[slot])
    }

    /// Seconds left of the Message Expiry Interval [MQTT-3.3.2-6].
    #[inline]
    pub(crate) fn expiry_secs(&self, now: Timestamp) -> Option<u32> {
        self.head.expires.map(|at| now.secs_until(at).max(1))
    }

    #[cold]
    fn build(
        &mut self,
        slot: usize,
        v5: bool,
        with_id: bool,
        expiry_secs: Option<u32>,
        shared: bool,
    ) -> Option<()> {
        self.built[slot] = false;
        let head = PublishHead {
            v5,
            first: 0,
            topic: self.topic,
            id: if with_id { PacketId::new(1) } else { None },
            expiry_secs,
            alias: None,
            subscription_ids: &[],
            props: self.props,
            payload_len: self.payload.len(),
        };
        let len = head.measure(u32::MAX)?;
        let template = &mut self.fan_out.templates[slot];
        template.bytes.clear();
        if template.bytes.capacity() > TEMPLATE_KEPT_BYTES {
            template.bytes = Vec::new();
        }
        template
            .bytes
            .reserve(if shared { len.head } else { len.packet });
        template.id_at = head.write(len, &mut template.bytes);
        if !shared {
            template.bytes.extend_from_slice(self.payload);
        }
        template.packet_len = len.packet;
        template.expiry_secs = expiry_secs;
        template.shared = shared;
        self.built[slot] = true;
        Some(())
    }
}
