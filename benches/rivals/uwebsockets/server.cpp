// A broadcast server on uWebSockets; the letters are those of benches/src/rivals/speech/raw.rs.
// Arguments: port, and for TLS the files of certificate and key.
#include "App.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>
#include <unordered_map>

struct Peer {
    uint32_t number = 0;
    bool known = false;
};

template <bool TLS>
static void serve(uWS::TemplatedApp<TLS> app, int port) {
    using Socket = uWS::WebSocket<TLS, true, Peer>;
    std::unordered_map<uint32_t, Socket *> direct;
    auto number_of = [](std::string_view message) {
        uint32_t number;
        memcpy(&number, message.data() + 1, 4);
        return number;
    };
    app.template ws<Peer>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 1024 * 1024,
        .idleTimeout = 0,
        .maxBackpressure = 64 * 1024 * 1024,
        .sendPingsAutomatically = false,
        .message = [&](Socket *socket, std::string_view message, uWS::OpCode) {
            if (message.empty()) {
                return;
            }
            if (message[0] == 'B') {
                app.publish("all", message.substr(1), uWS::OpCode::BINARY);
            } else if (message.size() < 5) {
                return;
            } else if (message[0] == 'D') {
                auto found = direct.find(number_of(message));
                if (found != direct.end()) {
                    found->second->send(message.substr(5), uWS::OpCode::BINARY);
                }
            } else if (message[0] == 'I' || message[0] == 'J') {
                *socket->getUserData() = Peer{number_of(message), true};
                direct[number_of(message)] = socket;
                if (message[0] == 'I') {
                    socket->subscribe("all");
                }
                socket->send("i", uWS::OpCode::BINARY);
            }
        },
        .close = [&](Socket *socket, int, std::string_view) {
            if (socket->getUserData()->known) {
                direct.erase(socket->getUserData()->number);
            }
        }
    }).listen("127.0.0.1", port, [](auto *listening) {
        if (!listening) {
            std::cerr << "the port is taken\n";
            exit(1);
        }
    }).run();
}

int main(int count, char **words) {
    if (count < 2) {
        std::cerr << "server PORT [CERT KEY]\n";
        return 2;
    }
    if (count == 4) {
        serve<true>(uWS::SSLApp({.key_file_name = words[3], .cert_file_name = words[2]}), atoi(words[1]));
    } else {
        serve<false>(uWS::App(), atoi(words[1]));
    }
}
