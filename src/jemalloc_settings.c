/* Settings of jemalloc, which reads this variable at startup. build.rs links it into the program, so that all builds have the same settings.
   Freed blocks return to the system after about two seconds, those of 128 KiB or more immediately. The number of arenas does not depend on
   the number of cores, and threads cache only small freed blocks. One background thread is enough. If the system started no more threads,
   jemalloc would try to start the others in a loop and print an error each time. */
#ifdef __aarch64__
/* Some arm64 kernels have pages of 64 KiB. With pages of this size, only blocks of 256 KiB or more can return immediately. */
#define OVERSIZE_THRESHOLD "262144"
#else
#define OVERSIZE_THRESHOLD "131072"
#endif

const char *_rjem_malloc_conf = "dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4,max_background_threads:1,tcache_max:8192,thp:never,"
                                "oversize_threshold:" OVERSIZE_THRESHOLD;
