/* Telling a service manager how we are: systemd's protocol (sd_notify(3)), one datagram to $NOTIFY_SOCKET. Without
 * libsystemd, which brings six more libraries and a megabyte for it. */
#ifndef TRIGGERD_BASE_NOTIFY_H
#define TRIGGERD_BASE_NOTIFY_H

/* `READY=1`, `STOPPING=1`, …. Where nobody asked, or nobody listens, nothing happens. */
void notify_manager(const char *state);

#endif
