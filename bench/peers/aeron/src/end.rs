//! One end of the conversation: a driver in invoker mode, a client on it, a publication and a subscription.

use std::ffi::CString;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rusteron_client::{
    Aeron, AeronAsyncAddExclusivePublication, AeronContext, AeronExclusivePublication,
    AeronOfferError, AeronSubscription, Handlers,
};
use rusteron_media_driver::{AeronDriver, AeronDriverContext, bindings::aeron_threading_mode_t};

use crate::{EndArgs, Failure};

const STREAM: i32 = 1001;
/// Bytes of a term: small, so that every page of it is in use soon.
const TERM_BYTES: usize = 1 << 20;
/// Longer than this process ever stands still, in ns.
const PATIENCE_NS: u64 = 3_600_000_000_000;
/// How long a set-up may take.
const SET_UP: Duration = Duration::from_secs(20);
/// The client's own upkeep runs once in so many turns.
const UPKEEP_EVERY: u32 = 64;
/// Messages that are taken at once.
const FRAGMENTS: usize = 64;

/// One end. Fields are dropped in this order: the driver goes last.
pub(crate) struct End {
    publication: AeronExclusivePublication,
    subscription: AeronSubscription,
    client: Aeron,
    driver: AeronDriver,
    turns: std::cell::Cell<u32>,
}

impl End {
    /// Starts a driver and opens both directions.
    pub(crate) fn open(args: &EndArgs) -> Result<End, Failure> {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: args.core }) {
            return Err(format!("cannot pin to core {}", args.core).into());
        }
        let dir = CString::new(args.dir.as_os_str().as_bytes())?;
        let settings = AeronDriverContext::new()?;
        settings.set_dir(&dir)?;
        settings.set_dir_delete_on_start(true)?;
        settings.set_dir_delete_on_shutdown(true)?;
        settings.set_threading_mode(aeron_threading_mode_t::AERON_THREADING_MODE_INVOKER)?;
        settings.set_term_buffer_length(TERM_BYTES)?;
        settings.set_term_buffer_sparse_file(false)?;
        settings.set_client_liveness_timeout_ns(PATIENCE_NS)?;
        settings.set_image_liveness_timeout_ns(PATIENCE_NS)?;
        settings.set_publication_unblock_timeout_ns(PATIENCE_NS + 1_000_000_000)?;
        settings.set_publication_connection_timeout_ns(PATIENCE_NS)?;
        let driver = AeronDriver::new(&settings)?;
        driver.start(true)?;
        driver.main_do_work()?;

        let context = AeronContext::new()?;
        context.set_dir(&dir)?;
        context.set_driver_timeout_ms(PATIENCE_NS / 1_000_000)?;
        context.set_pre_touch_mapped_memory(true)?;
        context.set_use_conductor_agent_invoker(true)?;
        let client = Aeron::new(&context)?;
        client.start()?;

        let (to, listen) = (channel(args.to)?, channel(args.listen)?);
        let adding =
            client.async_add_subscription(&listen, STREAM, Handlers::NONE, Handlers::NONE)?;
        let subscription = until(&driver, &client, || Ok(adding.poll()?))?;
        let adding = AeronAsyncAddExclusivePublication::new(&client, &to, STREAM)?;
        let publication = until(&driver, &client, || Ok(adding.poll()?))?;
        Ok(End { publication, subscription, client, driver, turns: std::cell::Cell::new(0) })
    }

    /// Works until the other end is there; `opened` is called before.
    pub(crate) fn until_connected(
        &self,
        opened: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        opened()?;
        while !(self.publication.is_connected() && self.subscription.is_connected()) {
            self.work()?;
        }
        Ok(())
    }

    /// One turn of driver and client.
    #[inline]
    pub(crate) fn work(&self) -> Result<(), Failure> {
        self.driver.main_do_work()?;
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        if turns.is_multiple_of(UPKEEP_EVERY) {
            self.client.main_do_work()?;
        }
        Ok(())
    }

    /// True if the message was taken.
    #[inline]
    pub(crate) fn send(&self, message: &[u8]) -> Result<bool, Failure> {
        match self.publication.offer(message) {
            Ok(_) => Ok(true),
            Err(AeronOfferError::BackPressured | AeronOfferError::AdminAction) => Ok(false),
            Err(error) => Err(format!("publication: {error:?}").into()),
        }
    }

    /// Takes what came.
    #[inline]
    pub(crate) fn take(&self, mut on: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.subscription.poll_fn(|message, _| on(message), FRAGMENTS)?;
        Ok(())
    }

    /// One turn of an echo: what came goes back at once.
    #[inline]
    pub(crate) fn answer(&self) -> Result<(), Failure> {
        self.work()?;
        let mut failure = None;
        self.take(|message| {
            while failure.is_none() {
                match self.send(message) {
                    Ok(true) => break,
                    Ok(false) => failure = self.work().err(),
                    Err(error) => failure = Some(error),
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }
}

fn channel(address: SocketAddrV4) -> Result<CString, Failure> {
    Ok(CString::new(format!("aeron:udp?endpoint={address}"))?)
}

/// Works until something is there.
fn until<T>(
    driver: &AeronDriver,
    client: &Aeron,
    mut poll: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + SET_UP;
    loop {
        driver.main_do_work()?;
        client.main_do_work()?;
        if let Some(there) = poll()? {
            return Ok(there);
        }
        if Instant::now() > deadline {
            return Err("the driver does not answer".into());
        }
    }
}
