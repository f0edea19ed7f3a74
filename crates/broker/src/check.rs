//! Settings that make no sense, found before anything starts. Users and rights are checked where they are compiled.

use crate::{ConfigError, config::Config};

impl Config {
    /// Checks ranges and relations of the settings.
    ///
    /// # Errors
    /// The first setting that makes no sense, by its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::new(key, problem));
        let (mqtt, limits) = (&self.mqtt, &self.limits);
        if !(3..=5).contains(&mqtt.minimum_protocol_level) {
            return refuse(
                "mqtt.minimum_protocol_level",
                "must be 3 (MQTT 3.1), 4 (3.1.1) or 5",
            );
        }
        if mqtt.receive_maximum == 0 {
            return refuse("mqtt.receive_maximum", "must be at least 1");
        }
        if limits.inflight_max == 0 {
            return refuse("limits.inflight_max", "must be at least 1");
        }
        // A PUBLISH with the shortest topic and nothing in it.
        if mqtt.maximum_packet_size < 16 {
            return refuse("mqtt.maximum_packet_size", "must be at least 16 bytes");
        }
        if limits.connect_packet_size_max < 64 {
            return refuse(
                "limits.connect_packet_size_max",
                "must be at least 64 bytes",
            );
        }
        if limits.connect_timeout.is_zero() {
            return refuse("limits.connect_timeout", "must not be zero");
        }
        if limits.topic_levels_max == 0 {
            return refuse("limits.topic_levels_max", "must be at least 1");
        }
        if limits.topic_bytes_max == 0 {
            return refuse("limits.topic_bytes_max", "must be at least 1");
        }
        if limits.data_streams_max > martlet_session::LANES_MAX {
            return refuse("limits.data_streams_max", "must be at most 31");
        }
        if limits.client_id_bytes_max < 23 {
            // [MQTT-3.1.3-5]
            return refuse(
                "limits.client_id_bytes_max",
                "must be at least 23: every broker takes such client ids",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_mistake_is_named_by_its_key() {
        let mut config = Config::default();
        config.mqtt.receive_maximum = 0;
        assert_eq!(
            config.check().map_err(|error| error.key),
            Err("mqtt.receive_maximum".into())
        );
    }
}
