//! `martlet serve`: from settings to a running broker, and from a signal to its end.

use std::error::Error;
use std::process::ExitCode;

use martlet_broker::{Broker, files};
use martlet_cli::args::ServeArgs;
use martlet_cli::check;
use martlet_cli::config::{self, Loaded};
use martlet_cli::logging::{self, LogHandle};
use martlet_cli::serve::listeners::Listeners;
use martlet_cli::serve::notify::notify;
use martlet_cli::serve::pid_file::PidFile;
use martlet_cli::serve::reload;
use martlet_cli::serve::signals::{Signal, Signals};
use martlet_cli::serve::{activation, backup, banner};

use crate::store;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Serves until a signal says otherwise.
///
/// # Errors
/// Why the broker could not start; nothing of it is left behind.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Box<dyn Error>> {
    let loaded = config::load(&args.config.inputs())?;
    let program = &loaded.settings.program;
    let log = logging::start(&program.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let _pid_file = if program.pid_file.as_os_str().is_empty() {
        None
    } else {
        Some(PidFile::create(&program.pid_file).map_err(|error| format!("error: {error}"))?)
    };
    // Where it cannot be raised, what counts is the limit there is.
    let open_files = files::raise_limit().ok().or_else(files::OpenFiles::current);
    if let Some(warning) =
        open_files.and_then(|files| files.warning(loaded.settings.broker.limits.connections_max))
    {
        tracing::warn!("{warning}");
    }
    let mut builder = match loaded.settings.program.worker_threads {
        // The scheduler of a single thread alone keeps the order in which sockets became readable.
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            if threads > 0 {
                builder.worker_threads(threads);
            }
            builder
        }
    };
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(serve(args, loaded, &log));
    // What still runs has had its time.
    runtime.shutdown_background();
    result
}

async fn serve(
    args: &ServeArgs,
    mut loaded: Loaded,
    log: &LogHandle,
) -> Result<ExitCode, Box<dyn Error>> {
    // From here on no signal ends the process without a goodbye.
    let mut signals = Signals::listen()?;
    let builder = Broker::builder()
        .config(loaded.settings.broker.clone())
        .version(&format!("martlet version {VERSION}"));
    // An authority may take its time.
    #[cfg(feature = "acme")]
    tokio::select! {
        looked = crate::certificate::look_after(&loaded.settings.program.acme) => looked?,
        signal = second(&mut signals) => return Ok(ExitCode::from(signal.exit_code())),
    }
    // Opening a store makes it and fires wills that are due: not for a broker that cannot listen.
    if let Some(error) = check::unusable_files(&loaded.settings.program).first() {
        return Err(format!("error: {error}").into());
    }
    let settings = &loaded.settings.program.storage;
    let (builder, store) = store::open(builder, settings, args.accept_loss)?;
    let mut copying = None;
    let broker = builder
        .start()
        .map_err(|error| loaded.problem(&error.key, &error.problem))?;
    let mut listeners = Listeners::new(activation::take());
    if let Err(error) = listeners
        .open_all(&broker, &loaded.settings.program.listeners)
        .await
    {
        broker.shutdown(std::time::Duration::ZERO).await;
        return Err(format!("error: {error}").into());
    }
    banner::print(
        &loaded.settings.program.log,
        VERSION,
        loaded.file.as_deref(),
        &loaded.settings.broker,
        &listeners.listening(),
    );
    notify("READY=1");
    let signal = loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = broker.until_store_fails() => {
                // Whoever was not told that a message is safe sends it again; going on would be a promise nobody keeps.
                broker.shutdown(std::time::Duration::ZERO).await;
                return Err("error: the store failed; see the log".into());
            }
        };
        match signal {
            Signal::Reload => {
                notify("RELOADING=1");
                loaded = reload::reload(&args.config, loaded, &broker, &mut listeners, log).await;
                notify("READY=1");
            }
            Signal::Backup => {
                let settings = &loaded.settings.program.storage;
                backup::start(store.as_ref(), settings, &mut copying);
            }
            signal => break signal,
        }
    };
    notify("STOPPING=1");
    let clients = broker.clients_connected();
    tracing::info!(
        ?signal,
        clients,
        "shutting down; a second signal ends at once"
    );
    tokio::select! {
        () = broker.shutdown(loaded.settings.program.shutdown_grace) => {}
        signal = second(&mut signals) => {
            tracing::warn!(?signal, "ended at once");
            return Ok(ExitCode::from(signal.exit_code()));
        }
    }
    if let Some(store) = &store {
        store.give_back();
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The next signal to stop.
async fn second(signals: &mut Signals) -> Signal {
    loop {
        match signals.next().await {
            Signal::Reload | Signal::Backup => {}
            signal => return signal,
        }
    }
}
