//! ALSA's library explains itself on standard error, in a dozen lines for one device that is not there. Here it is heard instead.

/// From now on this thread's words of ALSA's library are kept from standard error. What it has to say goes into `heard`.
#[cfg(target_os = "linux")]
pub(super) struct Quiet {
    heard: Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>,
}

#[cfg(target_os = "linux")]
impl Quiet {
    /// Listens.
    pub(super) fn begin() -> Self {
        Self { heard: alsa::Output::local_error_handler().ok() }
    }

    /// The first thing that was said, which is the cause of what followed.
    pub(super) fn first(&self) -> Option<String> {
        let words = self.heard.as_ref()?.try_borrow().ok()?.to_string();
        // `function: words`.
        words.lines().next().map(|line| line.split_once(": ").map_or(line, |(_, words)| words).trim().to_owned())
    }
}

/// Other systems keep silent.
#[cfg(not(target_os = "linux"))]
pub(super) struct Quiet;

#[cfg(not(target_os = "linux"))]
impl Quiet {
    pub(super) fn begin() -> Self {
        Self
    }

    pub(super) fn first(&self) -> Option<String> {
        None
    }
}
