// An emulated sound card: an ALSA plug-in. For capture, it delivers the frames of a raw file at the speed of the monotonic clock, and
// silence after the end of the file. For playback, it accepts frames at this speed and writes them to a raw file. The test compiles the
// plug-in and selects it in its own ALSA configuration:
//
//     pcm.card { type sound_card  file "x.raw"  format S16_LE  channels 1  rate 48000 }
//     pcm.loud { type sound_card  played "y.raw"  format S16_LE  channels 2  rate 48000 }
//
// Options: `gone_after N` (after N frames the card disconnects), `xrun_after N` (one overrun or underrun), `stuck_after N` (the card
// silently stops capturing or playing), `fails_after N` (every transfer fails, and the card is immediately ready for the next),
// `hangs_after N` (no transfer returns), `takes N` (the only period size that the card supports, in frames) and `ppm N` (clock error).
// If the program is late, no frames are lost: the card's clock stops while the capture buffer is full or the playback buffer is empty.
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

struct card {
    snd_pcm_ioplug_t io;
    FILE *file;                 // the frames to deliver, or the played frames
    int plays;
    int timer;                  // readable once a period can be read or written
    int running;
    uint64_t began;             // time of the last start, in nanoseconds; adjusted when the clock stops
    uint64_t before;            // frames that were transferred before the last start
    long gone_after, xrun_after, stuck_after, fails_after, hangs_after; // -1: never
    double speed;               // frames per nanosecond
    snd_pcm_uframes_t boundary; // where ALSA's own positions wrap
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

// Whether `position`, counted from the last start, is at least `after` frames after the very first frame.
static int reached(const struct card *card, long after, uint64_t position)
{
    return after >= 0 && card->before + position >= (uint64_t)after;
}
static int is_gone(const struct card *card) { return reached(card, card->gone_after, card->io.appl_ptr); }
static int fails(const struct card *card) { return reached(card, card->fails_after, card->io.appl_ptr); }
static int has_xrun(const struct card *card) { return reached(card, card->xrun_after, card->io.appl_ptr); }

// Frames that were captured or played since the start.
static uint64_t frames_done(struct card *card)
{
    if (!card->running)
        return 0;
    uint64_t max_frames = card->io.appl_ptr + (card->plays ? 0 : card->io.buffer_size);
    uint64_t frames = (now() - card->began) * card->speed;
    if (frames > max_frames) {
        card->began += (frames - max_frames) / card->speed;
        frames = max_frames;
    }
    return card->stuck_after >= 0 && frames > (uint64_t)card->stuck_after ? (uint64_t)card->stuck_after : frames;
}

// Sets the timer to the time when a period after frame `from` can be read or written, or to now if an event is due.
static void set_timer(struct card *card, uint64_t from)
{
    uint64_t until = from + card->io.period_size, buffer = card->plays ? card->io.buffer_size : 0;
    until = until > buffer ? until - buffer : 0;
    uint64_t at = card->began + (uint64_t)(until / card->speed) + 2; // rounded up, with a margin
    if (reached(card, card->gone_after, from) || reached(card, card->xrun_after, from) || reached(card, card->fails_after, from) || (card->plays && !until))
        at = 1;
    struct itimerspec time = {.it_value = {at / SECOND, at % SECOND}};
    int is_stuck = card->stuck_after >= 0 && until > (uint64_t)card->stuck_after;
    if ((!card->running && !card->plays) || is_stuck)
        memset(&time, 0, sizeof time);
    timerfd_settime(card->timer, TFD_TIMER_ABSTIME, &time, NULL);
}

static int card_start(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    card->running = 1;
    card->began = now();
    set_timer(card, io->appl_ptr);
    return 0;
}

static int card_stop(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    // Discard the frames that have not been played yet.
    if (card->plays && card->running) {
        uint64_t frame = snd_pcm_format_physical_width(io->format) / 8 * io->channels;
        fflush(card->file);
        if (ftruncate(fileno(card->file), (card->before + frames_done(card)) * frame))
            SNDERR("cannot truncate the frames that were not played");
    }
    card->running = 0;
    set_timer(card, 0);
    return 0;
}

static int card_prepare(snd_pcm_ioplug_t *io)
{
    set_timer(io->private_data, io->appl_ptr);
    return 0;
}

static snd_pcm_sframes_t card_pointer(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (has_xrun(card)) {
        card->xrun_after = -1;
        card->before += io->appl_ptr;
        return -EPIPE;
    }
    return frames_done(card) % card->boundary;
}

static snd_pcm_sframes_t card_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
                                       snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
    struct card *card = io->private_data;
    if (is_gone(card))
        return -ENODEV;
    if (fails(card))
        return -EIO;
    while (reached(card, card->hangs_after, card->io.appl_ptr))
        pause();
    // The samples are interleaved: the area of the first channel begins with the frame, and one step is one frame. With mapped access, ALSA
    // requests the same frames repeatedly, and requests frames that wrap around the end of the buffer separately.
    char *to = (char *)areas[0].addr + (areas[0].first + areas[0].step * offset) / 8;
    size_t frame = areas[0].step / 8, complete = 0;
    if (card->plays) {
        if (fwrite(to, frame, size, card->file) != size)
            return -EIO;
        set_timer(card, io->appl_ptr + size);
        return size;
    }
    int mapped = io->access != SND_PCM_ACCESS_RW_INTERLEAVED;
    uint64_t ahead = mapped ? (offset + io->buffer_size - io->appl_ptr % io->buffer_size) % io->buffer_size : 0;
    if (!fseek(card->file, (card->before + io->appl_ptr + ahead) * frame, SEEK_SET))
        complete = fread(to, frame, size, card->file);
    memset(to + complete * frame, 0, (size - complete) * frame);
    set_timer(card, io->appl_ptr + (mapped ? 0 : size));
    return size;
}

static int card_poll_revents(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned int n, unsigned short *revents)
{
    struct card *card = io->private_data;
    (void)fds, (void)n;
    *revents = 0;
    if (is_gone(card)) {
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
        *revents = POLLERR | POLLHUP;
    } else if (fails(card)) {
        *revents = card->plays ? POLLOUT : POLLIN;
    } else if (has_xrun(card)) {
        *revents = (card->plays ? POLLOUT : POLLIN) | POLLERR;
    } else if (card->plays && frames_done(card) + io->buffer_size >= io->appl_ptr + io->period_size) {
        *revents = POLLOUT;
    } else if (!card->plays && frames_done(card) >= io->appl_ptr + io->period_size) {
        *revents = POLLIN;
    } else {
        set_timer(card, io->appl_ptr);
    }
    return 0;
}

static int card_sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params)
{
    return snd_pcm_sw_params_get_boundary(params, &((struct card *)io->private_data)->boundary);
}

static int card_close(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (card->file)
        fclose(card->file);
    if (card->timer >= 0)
        close(card->timer);
    free(card);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = card_start, .stop = card_stop, .prepare = card_prepare, .pointer = card_pointer, .transfer = card_transfer,
    .poll_revents = card_poll_revents, .sw_params = card_sw_params, .close = card_close,
};

SND_PCM_PLUGIN_DEFINE_FUNC(sound_card)
{
    const char *file = NULL, *played = NULL, *format = "S16_LE";
    long channels = 1, rate = 48000, ppm = 0, gone_after = -1, xrun_after = -1, stuck_after = -1, fails_after = -1, hangs_after = -1, takes = 0;
    snd_config_iterator_t i, next;
    (void)root;
    snd_config_for_each(i, next, conf) {
        snd_config_t *field = snd_config_iterator_entry(i);
        const char *id;
        if (snd_config_get_id(field, &id) < 0)
            continue;
        if (!strcmp(id, "file")) snd_config_get_string(field, &file);
        else if (!strcmp(id, "played")) snd_config_get_string(field, &played);
        else if (!strcmp(id, "format")) snd_config_get_string(field, &format);
        else if (!strcmp(id, "channels")) snd_config_get_integer(field, &channels);
        else if (!strcmp(id, "rate")) snd_config_get_integer(field, &rate);
        else if (!strcmp(id, "gone_after")) snd_config_get_integer(field, &gone_after);
        else if (!strcmp(id, "xrun_after")) snd_config_get_integer(field, &xrun_after);
        else if (!strcmp(id, "stuck_after")) snd_config_get_integer(field, &stuck_after);
        else if (!strcmp(id, "fails_after")) snd_config_get_integer(field, &fails_after);
        else if (!strcmp(id, "hangs_after")) snd_config_get_integer(field, &hangs_after);
        else if (!strcmp(id, "takes")) snd_config_get_integer(field, &takes);
        else if (!strcmp(id, "ppm")) snd_config_get_integer(field, &ppm);
    }
    int plays = stream == SND_PCM_STREAM_PLAYBACK;
    if (!(plays ? played : file))
        return -ENODEV;
    struct card *card = calloc(1, sizeof *card);
    if (!card)
        return -ENOMEM;
    card->plays = plays;
    card->gone_after = gone_after;
    card->xrun_after = xrun_after;
    card->stuck_after = stuck_after;
    card->fails_after = fails_after;
    card->hangs_after = hangs_after;
    card->speed = rate * (1 + ppm / 1e6) / SECOND;
    card->boundary = 1;
    card->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    card->file = plays ? fopen(played, "wb") : fopen(file, "rb");
    snd_pcm_ioplug_t *io = &card->io;
    io->version = SND_PCM_IOPLUG_VERSION;
    io->name = "sound card of a test";
    io->flags = SND_PCM_IOPLUG_FLAG_BOUNDARY_WA | SND_PCM_IOPLUG_FLAG_MONOTONIC;
    io->callback = &callbacks;
    io->private_data = card;
    io->poll_fd = card->timer;
    io->poll_events = POLLIN;
    int error = card->file ? snd_pcm_ioplug_create(io, name, stream, mode) : -ENOENT;
    if (error < 0) {
        SNDERR("cannot open %s", plays ? played : file);
        card_close(io);
        return error;
    }
    // Mapped access is required by plug-ins above this one.
    unsigned int access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
    unsigned int samples = snd_pcm_format_value(format);
    unsigned int frame = channels * snd_pcm_format_physical_width(samples) / 8;
    if ((error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access)) < 0 ||
        (error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, &samples)) < 0 ||
        (error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_CHANNELS, channels, channels)) < 0 ||
        (error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_RATE, rate, rate)) < 0 ||
        (error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, (takes ? takes : 32) * frame, (takes ? takes : 4096) * frame)) < 0 ||
        (error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 16)) < 0) {
        snd_pcm_ioplug_delete(io);
        return error;
    }
    *pcmp = io->pcm;
    return 0;
}

SND_PCM_PLUGIN_SYMBOL(sound_card);
