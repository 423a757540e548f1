//! Which applet was asked for.

use baker_contract::GUEST_MARK;

/// What the program can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applet {
    /// PID 1 of the initramfs.
    Init,
    /// The smoke probe.
    Probe,
    /// Loads modules beside the boot.
    Load,
}

/// Chooses by process id and arguments.
///
/// PID 1 is always `init`: the kernel passes its own unknown words as arguments, so nothing else
/// can be read into them. Any other process is never `init`, because `init` empties its root.
pub fn choose(process: u32, arguments: &[String]) -> Result<Applet, String> {
    if process == 1 {
        return Ok(Applet::Init);
    }
    let called = arguments
        .first()
        .map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let word = if called == "probe" {
        called
    } else {
        arguments.get(1).map_or("", String::as_str)
    };
    match word {
        "probe" => Ok(Applet::Probe),
        "load" => Ok(Applet::Load),
        "init" => Err("init runs only as the first process of an initramfs".into()),
        "" => Err(format!("name an applet: init, probe, load ({GUEST_MARK})")),
        other => Err(format!(
            "unknown applet `{other}`: there are init, probe, load"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(process: u32, arguments: &[&str]) -> Option<Applet> {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        choose(process, &arguments).ok()
    }

    #[test]
    fn applets_are_chosen_by_either_argument() {
        assert_eq!(chosen(1, &["/init", "probe"]), Some(Applet::Init));
        assert_eq!(
            chosen(7, &["/run/baker/guest", "probe"]),
            Some(Applet::Probe)
        );
        assert_eq!(chosen(7, &["/bin/probe"]), Some(Applet::Probe));
        assert_eq!(chosen(7, &["/init", "load", "/a.ko"]), Some(Applet::Load));
        assert_eq!(chosen(7, &["/init"]), None);
        assert_eq!(chosen(7, &["guest", "init"]), None);
        assert_eq!(chosen(7, &["guest", "reimage"]), None);
        assert_eq!(chosen(7, &[]), None);
    }
}
