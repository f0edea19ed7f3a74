//! Fuzz target: any text is a configuration or a list of complaints with places inside the text; what is printed of
//! a configuration is read back as the same settings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_cli::config::{Format, Origin, PrintOptions, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let loaded = match parse("fuzz", text) {
        Ok(loaded) => loaded,
        Err(problems) => {
            assert!(!problems.list.is_empty());
            #[cfg(planted_bug)]
            assert!(problems.list.len() < 12);
            for problem in &problems.list {
                if let Origin::File(span) = &problem.origin {
                    assert!(span.end <= text.len());
                }
            }
            let told = problems.to_string();
            assert!(
                !told
                    .chars()
                    .any(|c| c.is_control() && c != '\n' && c != '\t')
            );
            return;
        }
    };
    for origins in [false, true] {
        let printed = loaded.print(PrintOptions {
            format: Format::Toml,
            origins,
            secrets: true,
        });
        let again = parse("printed", &printed).expect("what is printed is a configuration");
        assert_eq!(again.settings, loaded.settings);
    }
    let json = loaded.print(PrintOptions {
        format: Format::Json,
        origins: true,
        secrets: false,
    });
    assert!(json.starts_with('{'));
});
