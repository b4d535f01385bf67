//! Work that goes on when its request is answered, known to the end of the node.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::task::{AbortHandle, JoinSet};

/// Tasks of a node. Dropped, it ends them.
#[derive(Default)]
pub(super) struct Background {
    /// No more than there are answers in the store: each is one's, and goes with it.
    tasks: Mutex<JoinSet<()>>,
}

/// What a node knows of its tasks. The tasks know the node, so it must not hold them.
pub(super) struct Spawner(Weak<Background>);

impl Background {
    /// For the node.
    pub(super) fn spawner(self: &Arc<Self>) -> Spawner {
        Spawner(Arc::downgrade(self))
    }

    /// Returns when all is done.
    pub(super) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// Ends all at once.
    pub(super) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        // A panic while holding the lock leaves a valid set: carry on.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spawner {
    /// Starts `work`, unless the node has come to its end.
    pub(super) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let background = self.0.upgrade()?;
        let mut tasks = background.lock();
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn(work))
    }
}
