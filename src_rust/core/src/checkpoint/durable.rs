//! Files that are complete under their name or not there.
//!
//! A file is written under a temporary name in the same folder, synchronised, renamed, and the folder synchronised. While it
//! is being written its temporary is locked (`flock`), so that another process can tell a running save from the leavings of a
//! dead one: the lock dies with its holder, whatever killed it. Where a file system knows no locks, leavings are told by age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// How temporary files end.
pub const TEMPORARY_SUFFIX: &str = ".fulmen-part";

/// Without locks, a temporary that nobody wrote to for so long is a dead run's.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Bytes after which the disk is told to begin: it works while the rest is still being copied.
const WRITEBACK: u64 = 32 << 20;

/// Writes a file so that `target` is always the complete old file, the complete new one, or (if there was none) absent.
///
/// # Errors
/// [`Error::Io`] with the path and what was being done. The old file is then untouched, and the temporary removed.
pub fn replace(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<u64>) -> Result<u64> {
    let folder = parent(target);
    create_folders(folder)?;
    if target.is_dir() && !target.is_symlink() {
        return Err(Error::io(target, "replace", &io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let (temporary, file) = create_temporary(target)?;
    let guard = Unlink(Some(&temporary));
    let mut sink = Sink { file: &file, written: 0, started: 0 };
    let size = write(&mut sink).map_err(|error| Error::io(target, "write", &error))?;
    file.sync_all().map_err(|error| Error::io(target, "synchronise", &error))?;
    fs::rename(&temporary, target).map_err(|error| Error::io(target, "rename the finished file to", &error))?;
    guard.keep();
    sync_folder(folder).map_err(|error| Error::io(folder, "synchronise the folder", &error))?;
    Ok(size)
}

/// Removes what dead processes left in a folder; gives the number of files.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read. A file that cannot be removed is left, and not an error.
pub fn clean(folder: &Path) -> Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::io(folder, "list", &error)),
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) && is_abandoned(&entry.path()) {
            removed += usize::from(fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(removed)
}

fn is_abandoned(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
    match lock(&file) {
        Lock::Taken => true,
        Lock::Held => false,
        Lock::Unknown => {
            let modified = file.metadata().and_then(|data| data.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
        }
    }
}

/// Creates the file and locks it. Between the two a cleaner may have taken it for abandoned: then once more.
fn create_temporary(target: &Path) -> Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("checkpoint");
    // the name stays below the 255 bytes that file systems allow
    let name: String = name.chars().take(40).collect();
    for _ in 0..100 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let unique = now ^ (u64::from(std::process::id()) << 40) ^ (COUNT.fetch_add(1, Ordering::Relaxed) << 20);
        let path = parent(target).join(format!(".{name}.{unique:016x}{TEMPORARY_SUFFIX}"));
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(Error::io(target, "create a temporary file beside", &error)),
        };
        let ours = !matches!(lock(&file), Lock::Held);
        if ours && path.exists() {
            return Ok((path, file));
        }
    }
    let error = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(Error::io(target, "create a temporary file beside", &error))
}

enum Lock {
    Taken,
    Held,
    Unknown,
}

#[cfg(unix)]
fn lock(file: &File) -> Lock {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for as long as `file` lives, and flock touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Lock::Taken;
    }
    match io::Error::last_os_error().kind() {
        io::ErrorKind::WouldBlock => Lock::Held,
        _ => Lock::Unknown,
    }
}

#[cfg(not(unix))]
fn lock(_: &File) -> Lock {
    Lock::Unknown
}

/// The file, with the disk put to work early.
struct Sink<'a> {
    file: &'a File,
    written: u64,
    started: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.started >= WRITEBACK {
            start_writeback(self.file, self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn start_writeback(file: &File, from: u64, count: u64) {
    use std::os::fd::AsRawFd;
    // only a hint: what goes wrong here shows in the fsync that follows
    // SAFETY: the descriptor is open for as long as `file` lives, and the call touches no memory.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            from as libc::off64_t,
            count as libc::off64_t,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: u64, _: u64) {}

/// Makes a folder's entries durable: renames, new files and deletions.
///
/// # Errors
/// The disk's. File systems that know no such thing are fine.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder).and_then(|file| file.sync_all()) {
        // EINVAL, ENOTSUP: the file system has nothing to synchronise; EACCES: a folder that may be written, not read
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates a folder and those above it, each durable in its own parent.
fn create_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut missing = Vec::new();
    let mut current = Some(folder);
    while let Some(path) = current.filter(|path| !path.as_os_str().is_empty() && !path.exists()) {
        missing.push(path);
        current = path.parent();
    }
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, "create the folder", &error))?;
    for made in missing.into_iter().rev() {
        sync_folder(parent(made)).map_err(|error| Error::io(made, "create the folder", &error))?;
    }
    Ok(())
}

/// Removes a file when a write fails half way.
struct Unlink<'a>(Option<&'a Path>);

impl Unlink<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fulmen-durable-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_error_while_writing_leaves_the_old_file_and_no_litter() {
        let folder = folder("error");
        let target = folder.join("a.ckpt");
        replace(&target, |out| out.write_all(b"old").map(|()| 3)).unwrap();
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let error = replace(&target, |out| {
                out.write_all(b"half of the n")?;
                Err(io::Error::from(kind))
            })
            .unwrap_err();
            assert!(error.to_string().contains("a.ckpt"), "{error}");
            assert_eq!(fs::read(&target).unwrap(), b"old");
            assert_eq!(names(&folder), ["a.ckpt"]);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn leavings_go_and_running_saves_stay() {
        let folder = folder("clean");
        fs::write(folder.join(format!(".a.ckpt.12{TEMPORARY_SUFFIX}")), b"dead").unwrap();
        fs::write(folder.join("a.fulmen-part"), b"not ours").unwrap();
        let (path, file) = create_temporary(&folder.join("b.ckpt")).unwrap();
        assert_eq!(clean(&folder).unwrap(), 1);
        assert!(path.exists());
        drop(file);
        assert_eq!(clean(&folder).unwrap(), 1);
        assert_eq!(names(&folder), ["a.fulmen-part"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folders_are_made_and_directories_are_not_replaced() {
        let folder = folder("folders");
        let target = folder.join("x/y/z.ckpt");
        replace(&target, |out| out.write_all(b"1").map(|()| 1)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"1");
        assert!(replace(&folder.join("x"), |out| out.write_all(b"1").map(|()| 1)).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
