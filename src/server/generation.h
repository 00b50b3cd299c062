/*
 * One API call being answered: its engine requests (prompts x n), and the answer as it grows. Knows nothing of HTTP.
 *
 * Threads: generation_submit runs on a worker, generation_pump on the HTTP thread once submit has returned true,
 * generation_cancel anywhere.
 */
#ifndef SERVER_GENERATION_H
#define SERVER_GENERATION_H

#include "server/answer.h"
#include "server/api_request.h"

struct generation;

struct generation_env {
    const sluice_model *model;
    sluice_engine *engine;
    const char *model_name;
    const char *fingerprint;
    uint32_t timeout_ms;     /* the most that a request may ask for; 0 = no bound */
    void (*wake)(void *ctx); /* engine thread: there is something to pump */
    void *wake_ctx;
};

struct generation *generation_new(const struct generation_env *env, bool chat, struct api_error *e);
/* Renders or tokenizes the prompts and queues a request for every choice. False: e says why, nothing runs. */
bool generation_submit(struct generation *g, const struct api_request *r, struct api_error *e);
/* Safe from any thread and at any time until generation_free; what is submitted later ends at once. */
void generation_cancel(struct generation *g);
/* Cancels what still runs; wake is not called any more once this returns. */
void generation_free(struct generation *g);

bool generation_is_stream(const struct generation *g);

enum generation_state { GENERATION_WAITING, GENERATION_FINISHED, GENERATION_FAILED };

/* Takes the engine's events. Streams append SSE text to *out, at most a little more than `most` bytes; a stream that
 * fails ends with an SSE error. Otherwise *out gets the whole answer once it is FINISHED; FAILED leaves it to the
 * caller to send generation_error. WAITING means that all events are taken (or `most` is reached). */
enum generation_state generation_pump(struct generation *g, struct buf *out, size_t most);
const struct api_error *generation_error(const struct generation *g);
/* What was used so far. */
struct answer_usage generation_usage(const struct generation *g);

#endif
