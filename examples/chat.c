/* A chat on the terminal, in C. With sluice installed:
 *     cc chat.c $(pkg-config --cflags --libs --static sluice) -o chat && ./chat model.gguf */
#include <sluice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(sluice_status status, const sluice_error *err) {
    if (status != SLUICE_OK) {
        fprintf(stderr, "chat: %s\n", err->text);
        exit(1);
    }
}

int main(int argc, char **argv) {
    sluice_error err;
    sluice_model *model;
    sluice_engine *engine;
    check(sluice_model_load(argc > 1 ? argv[1] : NULL, &model, &err), &err);
    check(sluice_engine_create(model, NULL, &engine, &err), &err);

    sluice_message turns[256];
    size_t n = 0, cap = 0;
    char *line;
    for (line = NULL; n + 2 <= 256 && getline(&line, &cap, stdin) > 0; line = NULL) {
        turns[n++] = (sluice_message){.role = "user", .content = line, .content_len = strcspn(line, "\n")};
        sluice_chat chat = {.messages = turns, .n_messages = n};
        sluice_request_options options = sluice_request_options_default(model);
        int32_t *tokens;
        check(sluice_chat_render(model, &chat, &tokens, &options.n_tokens, NULL, &err), &err);
        options.tokens = tokens; /* what earlier turns came to is in the cache: only new tokens are computed */
        sluice_request *request;
        check(sluice_request_submit(engine, &options, &request, &err), &err);
        free(tokens);

        char *text;
        size_t len;
        FILE *answer = open_memstream(&text, &len);
        sluice_event event;
        while (sluice_request_wait(request, &event, -1) == SLUICE_EVENT_TOKEN) {
            fwrite(event.text, 1, event.text_len, answer);
            fwrite(event.text, 1, event.text_len, stdout);
            fflush(stdout);
        }
        puts("");
        check(event.error.status, &event.error); /* SLUICE_OK when the last event is DONE */
        fclose(answer);
        turns[n++] = (sluice_message){.role = "assistant", .content = text, .content_len = len};
        sluice_request_free(request);
    }
    free(line);
    while (n > 0) {
        free((char *)turns[--n].content);
    }
    sluice_engine_free(engine);
    sluice_model_free(model);
    return 0;
}
