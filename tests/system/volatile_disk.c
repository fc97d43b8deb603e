/* A disk with a cache that a power cut empties: preloaded below user-mode Linux.
 *
 * Before a write to the file GATEWAYD_DISK is done, it is noted in GATEWAYD_CACHE what stood
 * there and what comes; when the guest's kernel flushes the disk, the notes are dropped.
 * Whoever cuts the power takes any part of the noted writes back (disk_cache.py).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int notes = -1;
static struct stat disk;

/* Is this our disk? Only user-mode Linux's one thread for its disks asks with it. */
static int is_disk(int fd)
{
	struct stat seen;

	if (notes < 0) {
		const char *path = getenv("GATEWAYD_DISK"), *cache = getenv("GATEWAYD_CACHE");

		if (!path || !cache || stat(path, &disk) < 0)
			return 0;
		notes = open(cache, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
		if (notes < 0)
			_exit(97);
	}
	return fstat(fd, &seen) == 0 && seen.st_ino == disk.st_ino && seen.st_dev == disk.st_dev;
}

/* Without malloc: that thread has no memory of its own in glibc's eyes. */
static void note(int fd, const char *data, size_t count, off64_t at)
{
	static char before[65536];

	while (count > 0) {
		size_t part = count < sizeof before ? count : sizeof before;
		uint64_t head[2] = { at, part };

		if (syscall(SYS_pread64, fd, before, part, at) != (long)part
		    || syscall(SYS_write, notes, head, sizeof head) != sizeof head
		    || syscall(SYS_write, notes, before, part) != (long)part
		    || syscall(SYS_write, notes, data, part) != (long)part)
			_exit(98);
		data += part;
		at += part;
		count -= part;
	}
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at)
{
	if (is_disk(fd))
		note(fd, data, count, at);
	return syscall(SYS_pwrite64, fd, data, count, at);
}

static int flush(int fd, long call)
{
	if (is_disk(fd))
		return syscall(SYS_ftruncate, notes, 0L); /* the host's power is not cut */
	return syscall(call, fd);
}

int fsync(int fd)
{
	return flush(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return flush(fd, SYS_fdatasync);
}
