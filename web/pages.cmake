# The pages that the binary carries. Node builds them from web/; without Node 20.19 or its packages the table is empty, and the
# server and the report writer say so in plain HTML. Looked at again at every build, so that `make deps` later is enough.
option(WEB "Build the web pages where Node and their npm packages are found" ON)
set(WEB_DIR ${CMAKE_BINARY_DIR}/web)
set(web_files)
set(web_outputs)

# What is missing, as a reason in words; empty = the pages can be built with ${WEB_NODE}.
function(web_find_node reason)
    set(${reason} "" PARENT_SCOPE)
    if(NOT WEB)
        set(${reason} "WEB=0" PARENT_SCOPE)
        return()
    endif()
    file(GLOB own CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/.cache/node/node_modules/node/bin/node)
    # `make deps` leaves the lock that it installed from: packages of another one might not do.
    file(GLOB packages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/web/node_modules/.installed-lock)
    set(lock ${CMAKE_SOURCE_DIR}/web/package-lock.json)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${lock} ${packages})
    execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${lock} ${CMAKE_SOURCE_DIR}/web/node_modules/.installed-lock
        RESULT_VARIABLE differ OUTPUT_QUIET ERROR_QUIET)
    unset(found CACHE)
    find_program(found node)
    set(node ${own} ${found})
    list(GET node 0 node)
    unset(found CACHE)
    set(version "")
    if(node)
        execute_process(COMMAND ${node} --version OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
    if(NOT version MATCHES "^v([0-9.]+)" OR CMAKE_MATCH_1 VERSION_LESS 20.19)
        set(${reason} "no Node 20.19 or newer" PARENT_SCOPE)
    elseif(differ)
        set(${reason} "npm packages of web/ missing or outdated" PARENT_SCOPE)
    endif()
    set(WEB_NODE ${node} PARENT_SCOPE)
endfunction()

# web_page(NAME FILES...): builds web/NAME by its vite.config.ts; its FILES are embedded as NAME/FILE.
function(web_page name)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/web/${name}/* ${CMAKE_SOURCE_DIR}/web/shared/*)
    list(FILTER sources EXCLUDE REGEX "\\.test\\.ts$")
    list(TRANSFORM ARGN PREPEND ${WEB_DIR}/${name}/ OUTPUT_VARIABLE outputs)
    add_custom_command(OUTPUT ${outputs}
        COMMAND ${WEB_NODE} node_modules/vite/bin/vite.js build --logLevel warn --config ${name}/vite.config.ts
            --outDir ${WEB_DIR}/${name} --emptyOutDir
        DEPENDS ${sources} ${CMAKE_SOURCE_DIR}/web/package-lock.json
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/web VERBATIM COMMENT "web/${name}")
    foreach(file ${ARGN})
        list(APPEND web_files ${name}/${file}=${WEB_DIR}/${name}/${file})
    endforeach()
    set(web_files ${web_files} PARENT_SCOPE)
    set(web_outputs ${web_outputs} ${outputs} PARENT_SCOPE)
endfunction()

web_find_node(web_missing)
file(MAKE_DIRECTORY ${WEB_DIR})
if(web_missing)
    message(STATUS "web pages: not built (${web_missing})")
    set(WEB_TABLE ${WEB_DIR}/files_none.c)
    file(CONFIGURE OUTPUT ${WEB_TABLE} CONTENT "#include \"web/web.h\"\n
const struct web_file web_files[] = {{0}};\nconst size_t web_files_n = 0;\n")
    file(REMOVE ${WEB_DIR}/files.c) # so that the text below is written anew once they can be built
    set(advice "; `make deps && make` builds them")
    if(NOT WEB)
        set(advice "")
    endif()
    file(WRITE ${WEB_DIR}/built.txt "web pages: not built (${web_missing})${advice}\n")
else()
    web_page(chat index.html chat.js chat.css chat.svg)
    web_page(report report.js report.css)
    set(WEB_TABLE ${WEB_DIR}/files.c)
    add_custom_command(OUTPUT ${WEB_TABLE}
        COMMAND ${WEB_NODE} ${CMAKE_SOURCE_DIR}/web/embed.mjs ${WEB_TABLE} ${WEB_DIR}/built.txt ${web_files}
        DEPENDS ${web_outputs} ${CMAKE_SOURCE_DIR}/web/embed.mjs VERBATIM COMMENT "web/files.c")
endif()
