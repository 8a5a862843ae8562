/* A VFS that gathers what SQLite writes to its log: two small writes a page become one a commit.
 *
 * SQLite writes a frame's header and its page by themselves, some forty calls a commit, and tells nobody of them before
 * the log is synced (synchronous=FULL: the index of the log is updated after the sync). So they may wait in memory until
 * the sync, or until something else is asked of the file. What is then written cannot fail silently: the sync itself
 * fails, and with it the commit. All other files pass through. Thread: any; a file belongs to its connection.
 */
#ifndef TRIGGERD_STORE_WAL_VFS_H
#define TRIGGERD_STORE_WAL_VFS_H

/* The name of such a VFS over another (NULL: the default), made when it is first asked for; NULL: there is no such. */
const char *wal_vfs_over(const char *base);

#endif
