//! What wakes a driver when something is to be sent though nothing has arrived.

use std::fmt;
use std::sync::{Arc, OnceLock};

type Wake = Box<dyn Fn() + Send + Sync>;

/// A bell at a driver's door. Clones ring the same one. Ringing takes no lock and asks for no memory, so that an audio callback
/// may do it; before a driver has hung it up it rings for nobody.
#[derive(Clone, Default)]
pub struct Bell(Arc<OnceLock<Wake>>);

impl Bell {
    /// Wakes the driver, if it sleeps: it polls its node again.
    pub fn ring(&self) {
        if let Some(wake) = self.0.get() {
            wake();
        }
    }

    /// The driver is woken by `wake`. It hangs up before it first sleeps, and looks at its node afterwards; only the first one counts.
    pub fn hang(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(wake));
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Bell(hung)" } else { "Bell" })
    }
}
