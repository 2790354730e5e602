//! Two processes that serve the same accounts for a while tell each other how many requests each has
//! in flight, so that no account gets more than it may.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::super::App;
use super::super::orders::Line;
use crate::pool::Places;

/// So often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Tells and hears until the other process has gone; none of its places are counted then.
pub(super) fn share(app: &Arc<App>, mut line: Line) -> Result<()> {
    let mut teller = Line::new(line.reader.get_ref().try_clone()?)?;
    let told = app.clone();
    thread::spawn(move || tell(&told, &mut teller));
    line.reader.get_ref().set_read_timeout(None)?;
    while let Ok(places) = line.receive::<Places>() {
        hear(app, &places);
    }
    hear(app, &Places::new());
    Ok(())
}

fn tell(app: &App, line: &mut Line) {
    // The first word is said also when there is nothing: the other one counts what it inherited.
    let mut told = None;
    loop {
        let mut places = Places::new();
        app.pools
            .load()
            .iter()
            .for_each(|pool| pool.places(&mut places));
        // It fails when the other one has gone.
        if told.as_ref() != Some(&places) && line.send(&places).is_err() {
            return;
        }
        told = Some(places);
        thread::sleep(LOOK_EVERY);
    }
}

fn hear(app: &App, places: &Places) {
    app.pools
        .load()
        .iter()
        .for_each(|pool| pool.held_elsewhere(places));
}
