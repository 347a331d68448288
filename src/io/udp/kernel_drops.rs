//! What the kernel threw away because the receive buffer was full.
//!
//! Linux counts such drops for each socket and shows them in `/proc/self/net/udp` and `udp6`, last column, where the socket
//! is found by its inode. (`/proc/net` leads there too, unless a hardened service sees no more of `/proc` than processes. The
//! count can also be had with each packet, but quinn-udp has no room for it.)

use std::net::UdpSocket;

/// The kernel writes its tables in pieces, and may leave out a line where sockets come and go meanwhile. So often they are read
/// before the socket counts as missing.
const READINGS: usize = 5;

/// The drop count of one socket.
#[derive(Debug)]
pub struct KernelDrops {
    inode: Option<String>,
    /// Keeps the socket, and so its line in the table, until the last reading.
    _socket: Option<UdpSocket>,
}

impl KernelDrops {
    /// Finds the socket in the system's tables, where it has such.
    pub fn of(socket: &UdpSocket) -> Self {
        Self { inode: inode(socket), _socket: socket.try_clone().ok() }
    }

    /// Datagrams dropped so far, or `None` where the system does not tell.
    pub fn read(&self) -> Option<u64> {
        let inode = self.inode.as_deref()?;
        let read = |table: &str| drops(&std::fs::read_to_string(table).ok()?, inode);
        (0..READINGS).find_map(|_| ["/proc/self/net/udp", "/proc/self/net/udp6"].into_iter().find_map(read))
    }
}

#[cfg(target_os = "linux")]
fn inode(socket: &UdpSocket) -> Option<String> {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

#[cfg(not(target_os = "linux"))]
fn inode(_: &UdpSocket) -> Option<String> {
    None
}

/// The last column of the line whose tenth column is `inode`.
fn drops(table: &str, inode: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split_ascii_whitespace().nth(9) == Some(inode))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::drops;

    #[test]
    fn the_count_is_read_from_the_line_with_the_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
             311: 0100007F:1388 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 39129 2 0000000000000000 42\n  \
             512: 0100007F:1389 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3912 2 0000000000000000 7\n";
        assert_eq!(drops(table, "3912"), Some(7));
        assert_eq!(drops(table, "39129"), Some(42));
        assert_eq!(drops(table, "1"), None);
    }
}
